using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Nbd;

/// <summary>The authority of a URI: <c>[user@]host[:port]</c>.</summary>
internal static class NbdUriAuthority
{
    /// <summary>Cuts the user off.</summary>
    /// <param name="authority">All of it.</param>
    /// <param name="tls">Gets the user's name, if the query has not named one.</param>
    /// <param name="warnings">Told what has no effect.</param>
    /// <returns>Host and port.</returns>
    internal static ReadOnlySpan<char> SplitUser(
        ReadOnlySpan<char> authority, scoped ref NbdTlsOptions tls, List<string> warnings)
    {
        int at = authority.LastIndexOf('@');
        if (at < 0)
        {
            return authority;
        }

        ReadOnlySpan<char> user = authority[..at];
        int colon = user.IndexOf(':');
        if (colon >= 0)
        {
            warnings.Add("the password has no effect: a pre-shared key comes from the file of 'tls-psk-file'");
            user = user[..colon];
        }

        string name = NbdUriText.Decode(user, "user name");
        if (tls.Policy == NbdTlsPolicy.Disable)
        {
            warnings.Add("the user name has no effect without TLS");
        }
        else if (name.Length > 0)
        {
            tls = name.Contains('\0', StringComparison.Ordinal)
                ? throw new NbdUriFault("the user name holds a NUL byte (%00)")
                : tls with { UserName = tls.UserName ?? name };
        }

        return authority[(at + 1)..];
    }

    internal static NbdEndpoint.Tcp ReadTcp(ReadOnlySpan<char> authority)
    {
        ReadOnlySpan<char> host;
        ReadOnlySpan<char> port;
        if (authority.StartsWith('['))
        {
            int end = authority.IndexOf(']');
            if (end < 0 || (end + 1 < authority.Length && authority[end + 1] != ':'))
            {
                throw new NbdUriFault("an IPv6 address must be written as [ADDRESS] or [ADDRESS]:PORT");
            }

            host = authority[1..end];
            port = end + 1 < authority.Length ? authority[(end + 2)..] : default;
            if (!IPAddress.TryParse(NbdUriText.Decode(host, "host"), out IPAddress? address)
                || address.AddressFamily != AddressFamily.InterNetworkV6)
            {
                throw new NbdUriFault($"'{PrintableText.From(host.ToString())}' is not an IPv6 address");
            }
        }
        else
        {
            host = SplitPort(authority, out port);
        }

        string name = NbdUriText.Decode(host, "host");
        if (name.AsSpan().IndexOfAnyInRange('\0', ' ') >= 0)
        {
            throw new NbdUriFault("the host name holds a blank or a control character");
        }

        return new NbdEndpoint.Tcp(name.Length == 0 ? "localhost" : name, (int)ReadPort(port, ushort.MaxValue));
    }

    /// <summary>As libnbd: without a context it is the host's.</summary>
    internal static NbdEndpoint.Vsock ReadVsock(ReadOnlySpan<char> authority)
    {
        ReadOnlySpan<char> context = SplitPort(authority, out ReadOnlySpan<char> port);
        if (context.IsEmpty)
        {
            return new NbdEndpoint.Vsock(NbdEndpoint.Vsock.Host, ReadPort(port, uint.MaxValue));
        }

        return uint.TryParse(context, NumberStyles.None, CultureInfo.InvariantCulture, out uint number)
            ? new NbdEndpoint.Vsock(number, ReadPort(port, uint.MaxValue))
            : throw new NbdUriFault(
                $"'{PrintableText.From(context.ToString())}' is not the context id (CID) of a virtual machine, "
                + "which is a number: nbd+vsock://CID[:PORT]/[EXPORT]");
    }

    private static ReadOnlySpan<char> SplitPort(ReadOnlySpan<char> authority, out ReadOnlySpan<char> port)
    {
        int colon = authority.IndexOf(':');
        if (colon != authority.LastIndexOf(':'))
        {
            throw new NbdUriFault("an IPv6 address must stand in brackets: nbd://[ADDRESS]:PORT/");
        }

        port = colon < 0 ? default : authority[(colon + 1)..];
        return colon < 0 ? authority : authority[..colon];
    }

    private static uint ReadPort(ReadOnlySpan<char> text, uint maximum)
    {
        if (text.IsEmpty)
        {
            return NbdEndpoint.DefaultPort;
        }

        return uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out uint port)
            && port >= 1 && port <= maximum
            ? port
            : throw new NbdUriFault($"'{PrintableText.From(text.ToString())}' is not a port; it must be 1 to {maximum}");
    }
}
