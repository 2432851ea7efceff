using System.CommandLine;
using Nbd;

namespace NbdFuse;

/// <summary>The options --tls..., for sources without a URI.</summary>
internal static class TlsArguments
{
    private static readonly Option<string?> s_policy = Text(OptionTable.Tls);
    private static readonly Option<string?> s_certificates = Text(OptionTable.TlsCertificates);
    private static readonly Option<string?> s_hostName = Text(OptionTable.TlsHostName);
    private static readonly Option<string?> s_pskFile = Text(OptionTable.TlsPskFile);
    private static readonly Option<string?> s_userName = Text(OptionTable.TlsUserName);
    private static readonly Option<bool> s_verifyPeer = Flag(OptionTable.TlsVerifyPeer);
    private static readonly Option<bool> s_verifyNoPeer = Flag(OptionTable.TlsVerifyNoPeer);

    private static readonly Option[] s_all =
        [s_policy, s_certificates, s_hostName, s_pskFile, s_userName, s_verifyPeer, s_verifyNoPeer];

    internal static void AddTo(Command command)
    {
        foreach (Option option in s_all)
        {
            command.Add(option);
        }
    }

    /// <summary>What the options ask for, or the URI if there is one: it says all about TLS.</summary>
    /// <exception cref="UsageException">They contradict each other.</exception>
    internal static NbdTlsOptions Read(ParseResult parsed, NbdUri? uri)
    {
        Option? given = s_all.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false });
        if (uri is not null)
        {
            return given is null
                ? uri.Tls
                : throw new UsageException(
                    $"{given.Name} is for sources without a URI: write nbds in place of nbd, and tls-... parameters, "
                    + "into the URI instead");
        }

        if (given is null)
        {
            return new NbdTlsOptions();
        }

        NbdTlsPolicy policy = parsed.GetValue(s_policy) switch
        {
            null or "require" => NbdTlsPolicy.Require,
            "on" => NbdTlsPolicy.Allow,
            "off" => NbdTlsPolicy.Disable,
            string other => throw new UsageException($"--tls must be off, on or require, not '{other}'"),
        };
        Option? detail = s_all.Skip(1).FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false });
        if (policy == NbdTlsPolicy.Disable && detail is not null)
        {
            throw new UsageException($"{detail.Name} has no effect with --tls=off");
        }

        if (parsed.GetValue(s_verifyPeer) && parsed.GetValue(s_verifyNoPeer))
        {
            throw new UsageException("--tls-verify-peer and --no-tls-verify-peer contradict each other");
        }

        return new NbdTlsOptions
        {
            Policy = policy,
            CertificateDirectory = parsed.GetValue(s_certificates),
            PskFile = parsed.GetValue(s_pskFile),
            UserName = parsed.GetValue(s_userName),
            HostName = parsed.GetValue(s_hostName),
            VerifyPeer = !parsed.GetValue(s_verifyNoPeer),
        };
    }

    private static Option<string?> Text(OptionForm form) => new(form.Names[0], form.Names[1..]);

    private static Option<bool> Flag(OptionForm form) => new(form.Names[0], form.Names[1..]);
}
