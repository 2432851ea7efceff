using System.Text;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>Takes an NBD URI apart, from left to right.</summary>
internal static class NbdUriReader
{
    private const string Forms =
        "use nbd://HOST[:PORT]/[EXPORT] or nbd+unix:///[EXPORT]?socket=PATH, with nbds in place of nbd for TLS";

    private enum Transport
    {
        Tcp,
        Unix,
        Vsock,
    }

    internal static (NbdUri? Result, string? Error, Errno Errno) Read(string uri)
    {
        try
        {
            return (Split(uri), null, Errno.None);
        }
        catch (NbdUriFault e)
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

        (Transport transport, bool encrypted) = ReadScheme(uri[..schemeEnd].ToLowerInvariant());
        ReadOnlySpan<char> rest = uri.AsSpan(schemeEnd + 3);
        if (rest.Contains('#'))
        {
            throw new NbdUriFault("a '#' must be written %23: NBD URIs have no fragment");
        }

        int queryStart = rest.IndexOf('?');
        ReadOnlySpan<char> queryText = queryStart < 0 ? default : rest[(queryStart + 1)..];
        rest = queryStart < 0 ? rest : rest[..queryStart];
        int pathStart = rest.IndexOf('/');
        ReadOnlySpan<char> authority = pathStart < 0 ? rest : rest[..pathStart];
        string exportName = pathStart < 0 ? "" : ReadExportName(rest[(pathStart + 1)..]);

        List<string> warnings = [];
        NbdUriQuery query = NbdUriQuery.Read(queryText, warnings);
        NbdTlsOptions tls = encrypted ? query.Tls : query.WithoutTls(warnings);
        authority = NbdUriAuthority.SplitUser(authority, ref tls, warnings);
        if (transport != Transport.Unix && query.Socket is not null)
        {
            throw new NbdUriFault("'socket=' belongs to nbd+unix:///?socket=PATH; with this scheme it is contradictory");
        }

        NbdEndpoint endpoint = transport switch
        {
            Transport.Unix => MakeUnix(authority, query.Socket),
            Transport.Vsock => NbdUriAuthority.ReadVsock(authority),
            _ => NbdUriAuthority.ReadTcp(authority),
        };
        return new NbdUri(endpoint, exportName, tls, warnings);
    }

    private static (Transport Transport, bool Encrypted) ReadScheme(string scheme) => scheme switch
    {
        "nbd" => (Transport.Tcp, false),
        "nbds" => (Transport.Tcp, true),
        "nbd+unix" => (Transport.Unix, false),
        "nbds+unix" => (Transport.Unix, true),
        "nbd+vsock" => (Transport.Vsock, false),
        "nbds+vsock" => (Transport.Vsock, true),
        "nbd+ssh" or "nbds+ssh" => throw new NbdUriFault(
            $"SSH ({scheme}://) is not supported; forward a socket with ssh -L and use nbd+unix://", Errno.EOPNOTSUPP),
        _ => throw new NbdUriFault($"'{PrintableText.From(scheme)}' is not the scheme of an NBD URI; {Forms}"),
    };

    private static NbdUriFault NotAUri(string uri)
    {
        if (uri.Length == 0)
        {
            return new NbdUriFault($"it is empty; {Forms}");
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

        return new NbdUriFault("not an NBD URI; " + hint);
    }

    private static string ReadExportName(ReadOnlySpan<char> path)
    {
        string name = NbdUriText.Decode(path, "export name");
        if (name.Contains('\0', StringComparison.Ordinal))
        {
            throw new NbdUriFault("the export name holds a NUL byte (%00), which NBD does not allow");
        }

        int length = Encoding.UTF8.GetByteCount(name);
        return length <= NbdLimits.MaximumStringBytes
            ? name
            : throw new NbdUriFault(
                $"the export name has {length} bytes; NBD allows {NbdLimits.MaximumStringBytes}");
    }

    private static NbdEndpoint.Unix MakeUnix(ReadOnlySpan<char> authority, string? socket)
    {
        if (string.IsNullOrEmpty(socket))
        {
            throw new NbdUriFault("the path of the socket is missing: nbd+unix:///[EXPORT]?socket=PATH");
        }

        if (!authority.IsEmpty)
        {
            throw new NbdUriFault(
                $"a Unix socket has no host, but '{PrintableText.From(authority.ToString())}' stands where one "
                + "would: write nbd+unix:///[EXPORT]?socket=PATH with three slashes");
        }

        bool isAbstract = socket[0] == '\0';
        if (isAbstract ? socket.Length == 1 : socket.Contains('\0', StringComparison.Ordinal))
        {
            throw new NbdUriFault("the path of the socket holds a NUL byte (%00) that starts no abstract name");
        }

        return new NbdEndpoint.Unix(socket);
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
}
