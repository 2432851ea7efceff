using Linux;

namespace Nbd;

/// <summary>
/// The query of a URI: what stands behind the '?'. Keys may be in any case; of a key that is there twice the last value
/// counts.
/// </summary>
internal sealed class NbdUriQuery
{
    private readonly List<string> _tlsKeys = [];

    /// <summary>Path of the Unix socket, or null.</summary>
    internal string? Socket { get; private set; }

    /// <summary>What it says about TLS, with <see cref="NbdTlsPolicy.Require"/>.</summary>
    internal NbdTlsOptions Tls { get; private set; } = new() { Policy = NbdTlsPolicy.Require };

    /// <param name="text">Pairs of key and value, separated by '&amp;' or ';'.</param>
    /// <param name="warnings">Told about keys that are unknown, unless they start with "x-" (uri.md).</param>
    internal static NbdUriQuery Read(ReadOnlySpan<char> text, List<string> warnings)
    {
        NbdUriQuery query = new();
        foreach (Range part in text.SplitAny('&', ';'))
        {
            ReadOnlySpan<char> pair = text[part];
            int equals = pair.IndexOf('=');
            string written = NbdUriText.Decode(equals < 0 ? pair : pair[..equals], "query");
            string key = ToLower(written);
            ReadOnlySpan<char> value = equals < 0 ? default : pair[(equals + 1)..];
            if (key == "socket")
            {
                query.Socket = NbdUriText.Decode(value, "value of 'socket'");
            }
            else if (key.StartsWith("tls-", StringComparison.Ordinal) && query.WithTls(key, value) is { } tls)
            {
                query._tlsKeys.Add(key);
                query.Tls = tls;
            }
            else if (key.Length > 0 && !key.StartsWith("x-", StringComparison.Ordinal))
            {
                warnings.Add($"the query key '{PrintableText.From(written)}' is unknown and has no effect");
            }
        }

        return query;
    }

    /// <summary>TLS is off: warns of each key that is about it.</summary>
    internal NbdTlsOptions WithoutTls(List<string> warnings)
    {
        warnings.AddRange(_tlsKeys.Select(key => $"'{key}' has no effect without TLS: write nbds in place of nbd"));
        return new NbdTlsOptions();
    }

    /// <returns>Null if the key is unknown.</returns>
    private NbdTlsOptions? WithTls(string key, ReadOnlySpan<char> encoded)
    {
        string value = NbdUriText.Decode(encoded, $"value of '{PrintableText.From(key)}'");
        return key switch
        {
            "tls-certificates" => Tls with { CertificateDirectory = NotEmpty() },
            "tls-psk-file" => Tls with { PskFile = NotEmpty() },
            "tls-username" => Tls with { UserName = NotEmpty() },
            "tls-hostname" => Tls with { HostName = NotEmpty() },
            "tls-verify-peer" => Tls with
            {
                VerifyPeer = ToLower(value) switch
                {
                    "0" or "false" or "f" or "no" or "n" or "off" => false,
                    "1" or "true" or "t" or "yes" or "y" or "on" => true,
                    _ => throw new NbdUriFault($"'{key}' must be 0 or 1, or no or yes"),
                },
            },
            "tls-type" => Tls with
            {
                Authentication = value switch
                {
                    "x509" => NbdTlsAuthentication.X509,
                    "psk" => NbdTlsAuthentication.PreSharedKey,
                    "anon" => throw new NbdUriFault(
                        "'tls-type=anon' is not supported: without a certificate or key anybody can be the server; "
                        + "use x509 or psk",
                        Errno.EOPNOTSUPP),
                    _ => throw new NbdUriFault($"'{key}' must be x509 or psk"),
                },
            },
            _ => null,
        };

        string NotEmpty() => value.Length > 0 && !value.Contains('\0', StringComparison.Ordinal)
            ? value
            : throw new NbdUriFault($"'{key}' has no value that can be used");
    }

    /// <summary>ASCII alone: other letters have relatives in ASCII (U+212A, the Kelvin sign, is a 'K').</summary>
    private static string ToLower(string text) =>
        string.Create(text.Length, text, static (lower, source) =>
        {
            for (int i = 0; i < lower.Length; i++)
            {
                lower[i] = char.IsAsciiLetterUpper(source[i]) ? char.ToLowerInvariant(source[i]) : source[i];
            }
        });
}
