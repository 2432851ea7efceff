namespace NbdFuse;

/// <summary>An option as getopt_long(3) would know it.</summary>
/// <param name="Names">All spellings, with their dashes.</param>
/// <param name="Value">How the manual calls its value; null for an option without one.</param>
internal sealed record OptionForm(string[] Names, string? Value = null)
{
    internal bool TakesValue => Value is not null;
}

/// <summary>
/// The options that may stand before the mountpoint, and where that part of the command line ends. What comes
/// after the mountpoint belongs to the source: nothing in it is ever taken for an option of ours.
/// </summary>
internal static class OptionTable
{
    internal static readonly OptionForm AllExports = new(["--all"]);
    internal static readonly OptionForm Cache = new(["--cache"], "MODE");
    internal static readonly OptionForm Connections = new(["--connections", "-C"], "N");
    internal static readonly OptionForm ConnectTimeout = new(["--connect-timeout"], "SECONDS");
    internal static readonly OptionForm Debug = new(["-d"]);
    internal static readonly OptionForm Export = new(["--export"], "NAME");
    internal static readonly OptionForm FuseHelp = new(["--fuse-help"]);
    internal static readonly OptionForm FuseOption = new(["-o"], "FUSE-OPTION");
    internal static readonly OptionForm GroupId = new(["--gid"], "N");
    internal static readonly OptionForm Help = new(["--help"]);
    internal static readonly OptionForm LongOptions = new(["--long-options"]);
    internal static readonly OptionForm Mode = new(["--mode"], "OCTAL");
    internal static readonly OptionForm Partitions = new(["--partitions"]);
    internal static readonly OptionForm PidFile = new(["--pidfile", "--pid-file", "-P"], "FILE");
    internal static readonly OptionForm ReadAhead = new(["--readahead"], "SIZE");
    internal static readonly OptionForm ReadOnly = new(["--readonly", "--read-only", "-r"]);
    internal static readonly OptionForm ShortOptions = new(["--short-options"]);
    internal static readonly OptionForm SingleThreaded = new(["-s"]);
    internal static readonly OptionForm Tls = new(["--tls"], "off|on|require");
    internal static readonly OptionForm TlsCertificates = new(["--tls-certificates"], "DIR");
    internal static readonly OptionForm TlsHostName = new(["--tls-hostname"], "NAME");
    internal static readonly OptionForm TlsPskFile = new(["--tls-psk-file"], "FILE");
    internal static readonly OptionForm TlsUserName = new(["--tls-username"], "NAME");
    internal static readonly OptionForm TlsVerifyPeer = new(["--tls-verify-peer"]);
    internal static readonly OptionForm TlsVerifyNoPeer = new(["--no-tls-verify-peer"]);
    internal static readonly OptionForm Transport = new(["--transport"], "auto|device|uring");
    internal static readonly OptionForm UserId = new(["--uid"], "N");
    internal static readonly OptionForm Verbose = new(["--verbose", "-v"]);
    internal static readonly OptionForm Version = new(["--version", "-V"]);

    internal static readonly OptionForm[] All =
    [
        FuseHelp, Help, LongOptions, ShortOptions, AllExports, Connections, ConnectTimeout, Export, Partitions,
        PidFile, ReadAhead, ReadOnly, Tls, TlsCertificates, TlsHostName, TlsPskFile, TlsUserName, TlsVerifyPeer,
        TlsVerifyNoPeer, Transport, Verbose, Version, Debug, FuseOption, SingleThreaded, Cache,
        GroupId, Mode, UserId,
    ];

    /// <summary>What --long-options or --short-options prints, one a line, for completion scripts.</summary>
    internal static IEnumerable<string> Names(bool isLong)
    {
        IEnumerable<string> names = All.SelectMany(form => form.Names)
            .Where(name => name.StartsWith("--", StringComparison.Ordinal) == isLong);

        // As the C tool lists them: without the two that list.
        return isLong
            ? names.Where(name => name != LongOptions.Names[0] && name != ShortOptions.Names[0])
            : names.Order(StringComparer.Ordinal);
    }

    /// <summary>
    /// Splits a command line at the first word that is neither an option nor an option's value, and writes each
    /// option out: "-rC4" becomes "-r", "-C=4", and "--conn 4" becomes "--connections=4".
    /// </summary>
    internal static (List<string> Options, List<string> Operands) Split(IReadOnlyList<string> arguments)
    {
        List<string> options = [];
        int i = 0;
        while (i < arguments.Count && arguments[i].Length > 1 && arguments[i][0] == '-')
        {
            string word = arguments[i++];
            if (word == "--")
            {
                break;
            }

            string? next = i < arguments.Count ? arguments[i] : null;
            i += word.StartsWith("--", StringComparison.Ordinal)
                ? AddLong(options, word, next)
                : AddShort(options, word, next);
        }

        return (options, arguments.Skip(i).ToList());
    }

    /// <returns>1 if <paramref name="next"/> was used as the value, else 0.</returns>
    private static int AddLong(List<string> options, string word, string? next)
    {
        int equals = word.IndexOf('=');
        string typed = equals < 0 ? word : word[..equals];
        (OptionForm form, string name) = FindLong(typed);
        if (equals >= 0)
        {
            options.Add(form.TakesValue
                ? name + word[equals..]
                : throw new UsageException($"option '{name}' does not take a value"));
            return 0;
        }

        return Add(options, form, name, next);
    }

    private static (OptionForm Form, string Name) FindLong(string typed)
    {
        List<(OptionForm Form, string Name)> matches = All
            .SelectMany(form => form.Names.Select(name => (Form: form, Name: name)))
            .Where(match => match.Name.StartsWith(typed, StringComparison.Ordinal) && match.Name[1] == '-')
            .ToList();
        if (matches.FindIndex(match => match.Name == typed) is int exact and >= 0)
        {
            return matches[exact];
        }

        return matches.Select(match => match.Form).Distinct().Count() switch
        {
            0 => throw new UsageException($"unknown option '{typed}'"),
            1 => matches[0],
            _ => throw new UsageException(
                $"option '{typed}' is ambiguous: {string.Join(", ", matches.Select(match => match.Name))}"),
        };
    }

    private static int AddShort(List<string> options, string word, string? next)
    {
        for (int i = 1; i < word.Length; i++)
        {
            string name = "-" + word[i];
            OptionForm form = All.FirstOrDefault(form => form.Names.Contains(name))
                ?? throw new UsageException($"unknown option '{name}'");
            if (form.TakesValue && i + 1 < word.Length)
            {
                options.Add($"{name}={word[(i + 1)..]}");
                return 0;
            }

            if (Add(options, form, name, next) == 1)
            {
                return 1;
            }
        }

        return 0;
    }

    private static int Add(List<string> options, OptionForm form, string name, string? next)
    {
        if (!form.TakesValue)
        {
            options.Add(name);
            return 0;
        }

        options.Add($"{name}={next ?? throw new UsageException($"option '{name}' needs a value")}");
        return 1;
    }
}
