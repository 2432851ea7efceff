using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// An NBD URI (uri.md of the NBD specification), taken apart: <c>nbd://host[:port]/[export]</c> or
/// <c>nbd+unix:///[export]?socket=path</c>. Immutable.
/// </summary>
public sealed class NbdUri
{
    private static readonly UTF8Encoding s_strictUtf8 = new(false, throwOnInvalidBytes: true);

    private NbdUri(NbdEndpoint endpoint, string exportName, IReadOnlyList<string> warnings)
    {
        Endpoint = endpoint;
        ExportName = exportName;
        Warnings = warnings;
    }

    /// <summary>Where the server is.</summary>
    public NbdEndpoint Endpoint { get; }

    /// <summary>Name of the export, decoded, at most 4096 bytes in UTF-8; "" is the server's default export.</summary>
    public string ExportName { get; }

    /// <summary>What the URI holds that has no effect, one printable sentence each; usually empty.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>Takes a URI apart.</summary>
    /// <exception cref="NbdException">
    /// It is not an NBD URI (EINVAL), or it needs what is not supported yet (EOPNOTSUPP).
    /// </exception>
    public static NbdUri Parse(string uri)
    {
        ArgumentNullException.ThrowIfNull(uri);
        (NbdUri? result, string? error, Errno errno) = Read(uri);
        return result ?? throw new NbdException(error!, errno);
    }

    /// <summary>Takes a URI apart.</summary>
    /// <param name="uri">The text.</param>
    /// <param name="result">The parts, or null.</param>
    /// <param name="error">Why it cannot be used, printable, or null.</param>
    /// <returns>Whether it is an NBD URI that can be used.</returns>
    public static bool TryParse(
        string? uri, [NotNullWhen(true)] out NbdUri? result, [NotNullWhen(false)] out string? error)
    {
        (result, error, _) = Read(uri ?? "");
        return result is not null;
    }

    /// <summary>The URI in its shortest form, without user name and query keys that have no effect.</summary>
    public override string ToString() => Endpoint.FormatUri(ExportName);

    private static (NbdUri? Result, string? Error, Errno Errno) Read(string uri)
    {
        try
        {
            return (Split(uri), null, Errno.None);
        }
        catch (UriFault e)
        {
            return (null, $"{DescribeInput(uri)}: {e.Message}", e.Errno);
        }
    }

    private static NbdUri Split(string uri)
    {
        int schemeEnd = uri.IndexOf("://", StringComparison.Ordinal);
        if (schemeEnd < 0)
        {
            throw NotAUri(uri);
        }

        bool isUnix = ReadScheme(uri[..schemeEnd].ToLowerInvariant());
        ReadOnlySpan<char> rest = uri.AsSpan(schemeEnd + 3);
        if (rest.Contains('#'))
        {
            throw new UriFault("a '#' must be written %23: NBD URIs have no fragment");
        }

        int queryStart = rest.IndexOf('?');
        ReadOnlySpan<char> query = queryStart < 0 ? default : rest[(queryStart + 1)..];
        rest = queryStart < 0 ? rest : rest[..queryStart];
        int pathStart = rest.IndexOf('/');
        ReadOnlySpan<char> authority = pathStart < 0 ? rest : rest[..pathStart];
        string exportName = pathStart < 0 ? "" : ReadExportName(rest[(pathStart + 1)..]);

        List<string> warnings = [];
        string? socket = ReadQuery(query, warnings);
        authority = SkipUserName(authority, warnings);
        if (!isUnix && socket is not null)
        {
            throw new UriFault("'socket=' belongs to nbd+unix:///?socket=PATH; with nbd:// it is contradictory");
        }

        NbdEndpoint endpoint = isUnix ? MakeUnix(authority, socket) : ReadTcp(authority);
        return new NbdUri(endpoint, exportName, warnings);
    }

    /// <returns>Whether the transport is a Unix socket.</returns>
    private static bool ReadScheme(string scheme) => scheme switch
    {
        "nbd" => false,
        "nbd+unix" => true,
        "nbds" => throw NotYet("TLS (nbds://); use nbd:// over a trusted network or through a tunnel"),
        "nbds+unix" => throw NotYet("TLS (nbds+unix://); a Unix socket rarely needs it, try nbd+unix://"),
        "nbd+vsock" => throw NotYet("virtual machine sockets (nbd+vsock://)"),
        "nbds+vsock" => throw NotYet("virtual machine sockets with TLS (nbds+vsock://)"),
        "nbd+ssh" or "nbds+ssh" =>
            throw NotYet($"SSH ({scheme}://); forward a socket with ssh -L and use nbd+unix://"),
        _ => throw new UriFault(
            $"'{PrintableText.From(scheme)}' is not the scheme of an NBD URI; "
            + "use nbd://HOST[:PORT]/[EXPORT] or nbd+unix:///[EXPORT]?socket=PATH"),
    };

    private static UriFault NotAUri(string uri)
    {
        if (uri.Length == 0)
        {
            return new UriFault("it is empty; use nbd://HOST[:PORT]/[EXPORT] or nbd+unix:///[EXPORT]?socket=PATH");
        }

        string hint;
        if (uri.StartsWith("nbd", StringComparison.OrdinalIgnoreCase) && uri.Contains(':', StringComparison.Ordinal))
        {
            hint = "'//' must follow the scheme: nbd://HOST[:PORT]/[EXPORT]";
        }
        else if (uri.Contains('/', StringComparison.Ordinal) || !uri.Contains(':', StringComparison.Ordinal))
        {
            hint = $"for a Unix socket use nbd+unix:///?socket={PrintableText.From(uri)}, for a host nbd://HOST/";
        }
        else
        {
            hint = $"did you mean nbd://{PrintableText.From(uri)}/ ?";
        }

        return new UriFault("not an NBD URI; " + hint);
    }

    private static string ReadExportName(ReadOnlySpan<char> path)
    {
        string name = Decode(path, "export name");
        if (name.Contains('\0', StringComparison.Ordinal))
        {
            throw new UriFault("the export name holds a NUL byte (%00), which NBD does not allow");
        }

        int length = Encoding.UTF8.GetByteCount(name);
        return length <= NbdLimits.MaximumStringBytes
            ? name
            : throw new UriFault(
                $"the export name has {length} bytes; NBD allows {NbdLimits.MaximumStringBytes}");
    }

    /// <returns>The last value of 'socket', or null.</returns>
    private static string? ReadQuery(ReadOnlySpan<char> query, List<string> warnings)
    {
        string? socket = null;
        foreach (Range part in query.SplitAny('&', ';'))
        {
            ReadOnlySpan<char> pair = query[part];
            int equals = pair.IndexOf('=');
            string key = Decode(equals < 0 ? pair : pair[..equals], "query");
            if (key == "socket")
            {
                socket = Decode(equals < 0 ? default : pair[(equals + 1)..], "value of 'socket'");
            }
            else if (key.StartsWith("tls-", StringComparison.Ordinal))
            {
                warnings.Add($"'{PrintableText.From(key)}' has no effect without TLS");
            }
            else if (key.Length > 0 && !key.StartsWith("x-", StringComparison.Ordinal))
            {
                warnings.Add($"the query key '{PrintableText.From(key)}' is unknown and has no effect");
            }
        }

        return socket;
    }

    private static ReadOnlySpan<char> SkipUserName(ReadOnlySpan<char> authority, List<string> warnings)
    {
        int at = authority.LastIndexOf('@');
        if (at < 0)
        {
            return authority;
        }

        warnings.Add("the user name has no effect without TLS");
        return authority[(at + 1)..];
    }

    private static NbdEndpoint.Unix MakeUnix(ReadOnlySpan<char> authority, string? socket)
    {
        if (string.IsNullOrEmpty(socket))
        {
            throw new UriFault("the path of the socket is missing: nbd+unix:///[EXPORT]?socket=PATH");
        }

        if (!authority.IsEmpty)
        {
            throw new UriFault(
                $"a Unix socket has no host, but '{PrintableText.From(authority.ToString())}' stands where one "
                + "would: write nbd+unix:///[EXPORT]?socket=PATH with three slashes");
        }

        bool isAbstract = socket[0] == '\0';
        if (isAbstract ? socket.Length == 1 : socket.Contains('\0', StringComparison.Ordinal))
        {
            throw new UriFault("the path of the socket holds a NUL byte (%00) that starts no abstract name");
        }

        return new NbdEndpoint.Unix(socket);
    }

    private static NbdEndpoint.Tcp ReadTcp(ReadOnlySpan<char> authority)
    {
        ReadOnlySpan<char> host;
        ReadOnlySpan<char> port;
        if (authority.StartsWith('['))
        {
            int end = authority.IndexOf(']');
            if (end < 0 || (end + 1 < authority.Length && authority[end + 1] != ':'))
            {
                throw new UriFault("an IPv6 address must be written as [ADDRESS] or [ADDRESS]:PORT");
            }

            host = authority[1..end];
            port = end + 1 < authority.Length ? authority[(end + 2)..] : default;
            if (!System.Net.IPAddress.TryParse(Decode(host, "host"), out System.Net.IPAddress? address)
                || address.AddressFamily != System.Net.Sockets.AddressFamily.InterNetworkV6)
            {
                throw new UriFault($"'{PrintableText.From(host.ToString())}' is not an IPv6 address");
            }
        }
        else
        {
            int colon = authority.IndexOf(':');
            if (colon != authority.LastIndexOf(':'))
            {
                throw new UriFault("an IPv6 address must stand in brackets: nbd://[ADDRESS]:PORT/");
            }

            host = colon < 0 ? authority : authority[..colon];
            port = colon < 0 ? default : authority[(colon + 1)..];
        }

        string name = Decode(host, "host");
        if (name.AsSpan().IndexOfAnyInRange('\0', ' ') >= 0)
        {
            throw new UriFault("the host name holds a blank or a control character");
        }

        return new NbdEndpoint.Tcp(name.Length == 0 ? "localhost" : name, ReadPort(port));
    }

    private static int ReadPort(ReadOnlySpan<char> text)
    {
        if (text.IsEmpty)
        {
            return NbdEndpoint.DefaultPort;
        }

        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int port)
            && port is >= 1 and <= 65535
            ? port
            : throw new UriFault($"'{PrintableText.From(text.ToString())}' is not a port; it must be 1 to 65535");
    }

    /// <summary>Percent-decoding; a '+' stays a '+'.</summary>
    private static string Decode(ReadOnlySpan<char> text, string what)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetMaxByteCount(text.Length)];
        int length = 0;
        while (!text.IsEmpty)
        {
            int percent = text.IndexOf('%');
            ReadOnlySpan<char> plain = percent < 0 ? text : text[..percent];
            length += Encoding.UTF8.GetBytes(plain, bytes.AsSpan(length));
            text = text[plain.Length..];
            if (percent >= 0)
            {
                if (text.Length < 3
                    || !byte.TryParse(
                        text.Slice(1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte value))
                {
                    throw new UriFault($"the {what} has a '%' without two hexadecimal digits; '%' itself is %25");
                }

                bytes[length++] = value;
                text = text[3..];
            }
        }

        try
        {
            return s_strictUtf8.GetString(bytes, 0, length);
        }
        catch (DecoderFallbackException)
        {
            throw new UriFault($"the {what} is not UTF-8");
        }
    }

    /// <summary>What was given, without what stands before an '@' and without the query: both may be secret.</summary>
    private static string DescribeInput(string uri)
    {
        string shown = uri.Split('?')[0];
        int scheme = shown.IndexOf("://", StringComparison.Ordinal);
        int start = scheme < 0 ? 0 : scheme + 3;
        ReadOnlySpan<char> rest = shown.AsSpan(start);
        int slash = rest.IndexOf('/');
        int at = (slash < 0 ? rest : rest[..slash]).LastIndexOf('@');
        shown = at < 0 ? shown : string.Concat(shown.AsSpan(0, start), rest[(at + 1)..]);
        return $"URI '{PrintableText.From(shown)}'";
    }

    private static UriFault NotYet(string what) => new("not supported yet: " + what, Errno.EOPNOTSUPP);

    /// <summary>Carries the reason from where it was found to <see cref="Read"/>.</summary>
    private sealed class UriFault(string message, Errno errno = Errno.EINVAL) : Exception(message)
    {
        public Errno Errno { get; } = errno;
    }
}
