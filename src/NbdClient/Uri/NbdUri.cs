using System.Diagnostics.CodeAnalysis;
using System.Text;
using Linux;

namespace Nbd;

/// <summary>
/// An NBD URI (uri.md of the NBD specification), taken apart. Immutable.
/// <para>
/// The forms: <c>nbd://host[:port]/[export]</c>, <c>nbd+unix:///[export]?socket=path</c> and
/// <c>nbd+vsock://[cid][:port]/[export]</c>; with <c>nbds</c> in place of <c>nbd</c>, TLS is required, and
/// <c>tls-certificates</c>, <c>tls-psk-file</c>, <c>tls-username</c> (or the user of <c>user@host</c>),
/// <c>tls-hostname</c>, <c>tls-verify-peer</c> and <c>tls-type</c> in the query say how. Schemes and
/// the keys of the query may be in any case.
/// </para>
/// </summary>
public sealed class NbdUri
{
    private static readonly NbdTlsOptions s_requireTls = new() { Policy = NbdTlsPolicy.Require };

    internal NbdUri(NbdEndpoint endpoint, string exportName, NbdTlsOptions tls, IReadOnlyList<string> warnings)
    {
        Endpoint = endpoint;
        ExportName = exportName;
        Tls = tls;
        Warnings = warnings;
    }

    /// <summary>Where the server is.</summary>
    public NbdEndpoint Endpoint { get; }

    /// <summary>Name of the export, decoded, at most 4096 bytes in UTF-8; "" is the server's default export.</summary>
    public string ExportName { get; }

    /// <summary>
    /// Encryption: its policy is <see cref="NbdTlsPolicy.Require"/> for the schemes with <c>nbds</c>, else
    /// <see cref="NbdTlsPolicy.Disable"/>.
    /// </summary>
    public NbdTlsOptions Tls { get; }

    /// <summary>What the URI holds that has no effect, one printable sentence each; usually empty.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>Takes a URI apart.</summary>
    /// <exception cref="NbdException">
    /// It is not an NBD URI (EINVAL), or it needs what is not supported (EOPNOTSUPP).
    /// </exception>
    public static NbdUri Parse(string uri)
    {
        ArgumentNullException.ThrowIfNull(uri);
        (NbdUri? result, string? error, Errno errno) = NbdUriReader.Read(uri);
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
        (result, error, _) = NbdUriReader.Read(uri ?? "");
        return result is not null;
    }

    /// <summary>
    /// The URI in its shortest form, keys in lower case, without what has no effect: <see cref="Parse"/> makes the same
    /// of it. It has the user's name and the path of the key file, but no key; <see cref="NbdEndpoint.FormatUri"/> has
    /// neither.
    /// </summary>
    public override string ToString()
    {
        StringBuilder text = new(Endpoint.FormatUri(ExportName, Tls.Policy == NbdTlsPolicy.Require));
        char separator = Endpoint is NbdEndpoint.Unix ? '&' : '?';
        Add("tls-type", Tls.Authentication switch
        {
            NbdTlsAuthentication.X509 => "x509",
            NbdTlsAuthentication.PreSharedKey => "psk",
            _ => null,
        });
        Add("tls-certificates", Tls.CertificateDirectory);
        Add("tls-psk-file", Tls.PskFile);
        Add("tls-username", Tls.UserName);
        Add("tls-hostname", Tls.HostName);
        Add("tls-verify-peer", Tls.VerifyPeer ? null : "0");
        return text.ToString();

        void Add(string key, string? value)
        {
            if (value is not null)
            {
                text.Append(separator).Append(key).Append('=').Append(EscapeValue(value));
                separator = '&';
            }
        }
    }

    /// <summary>A value of the query. A '/' needs no escape there and is easier to read without.</summary>
    internal static string EscapeValue(string value) =>
        Uri.EscapeDataString(value).Replace("%2F", "/", StringComparison.Ordinal);

    /// <summary>
    /// What to connect with: a URI that requires TLS and says how has the last word; one that only requires it takes
    /// how from <paramref name="options"/>; one without TLS leaves them as they are.
    /// </summary>
    internal NbdClientOptions Over(NbdClientOptions options)
    {
        if (Tls.Policy != NbdTlsPolicy.Require)
        {
            return options;
        }

        return options with { Tls = Tls == s_requireTls ? options.Tls with { Policy = NbdTlsPolicy.Require } : Tls };
    }
}
