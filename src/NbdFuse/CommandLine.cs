using System.CommandLine;
using System.Globalization;
using Nbd;

namespace NbdFuse;

/// <summary>
/// The command line: <see cref="OptionTable"/> cuts off what belongs to the source, System.CommandLine reads the
/// options before it.
/// </summary>
internal static class CommandLine
{
    private static readonly Option<bool> s_all = Flag(OptionTable.AllExports);
    private static readonly Option<string?> s_cache = Text(OptionTable.Cache);
    private static readonly Option<int?> s_connections = Number(OptionTable.Connections, 1, 1024);
    private static readonly Option<int?> s_connectTimeout = Number(OptionTable.ConnectTimeout, 1, 86400);
    private static readonly Option<bool> s_debug = Flag(OptionTable.Debug);
    private static readonly Option<string?> s_export = Text(OptionTable.Export);
    private static readonly Option<bool> s_fuseHelp = Flag(OptionTable.FuseHelp);
    private static readonly Option<string[]> s_fuseOption = new(OptionTable.FuseOption.Names[0])
    {
        AllowMultipleArgumentsPerToken = false,
    };

    private static readonly Option<int?> s_groupId = Number(OptionTable.GroupId, 0, int.MaxValue);
    private static readonly Option<bool> s_help = Flag(OptionTable.Help);
    private static readonly Option<bool> s_longOptions = Flag(OptionTable.LongOptions);
    private static readonly Option<string?> s_mode = Text(OptionTable.Mode);
    private static readonly Option<bool> s_partitions = Flag(OptionTable.Partitions);
    private static readonly Option<string?> s_pidFile = Text(OptionTable.PidFile);
    private static readonly Option<string?> s_readAhead = Text(OptionTable.ReadAhead);
    private static readonly Option<bool> s_readOnly = Flag(OptionTable.ReadOnly);
    private static readonly Option<bool> s_shortOptions = Flag(OptionTable.ShortOptions);
    private static readonly Option<bool> s_singleThreaded = Flag(OptionTable.SingleThreaded);
    private static readonly Option<string?> s_transport = Text(OptionTable.Transport);
    private static readonly Option<int?> s_userId = Number(OptionTable.UserId, 0, int.MaxValue);
    private static readonly Option<bool> s_verbose = Flag(OptionTable.Verbose);
    private static readonly Option<bool> s_version = Flag(OptionTable.Version);

    /// <summary>
    /// Reads the command line. Null when it asked for a text that <paramref name="output"/> got.
    /// </summary>
    /// <exception cref="UsageException">The command line is wrong.</exception>
    internal static Invocation? Parse(string[] arguments, TextWriter output, Action<string> warn)
    {
        (List<string> options, List<string> operands) = OptionTable.Split(arguments);
        ParseResult parsed = Root().Parse(options, new ParserConfiguration
        {
            EnablePosixBundling = false,
            ResponseFileTokenReplacer = null,
        });
        if (parsed.Errors.Count > 0)
        {
            throw new UsageException(parsed.Errors[0].Message);
        }

        if (TextAskedFor(parsed) is string text)
        {
            output.WriteLine(text);
            return null;
        }

        if (operands.Count == 0)
        {
            throw new UsageException("no MOUNTPOINT given (try 'nbdfuse --help')");
        }

        (NbdEndpoint endpoint, NbdUri? uri) = SourceArguments.Parse(operands.Skip(1).ToList(), warn);
        string? exportOption = parsed.GetValue(s_export);
        if (uri is not null && exportOption is not null)
        {
            throw new UsageException("--export is for sources without a URI: write the name into the URI instead");
        }

        if (parsed.GetValue(s_all) && !string.IsNullOrEmpty(uri?.ExportName ?? exportOption))
        {
            throw new UsageException("--all shows every export: leave out the name of one");
        }

        if (parsed.GetValue(s_all) && parsed.GetValue(s_partitions))
        {
            throw new UsageException("--partitions is for the mount of one export, not for --all");
        }

        FuseOptions fuse = FuseOptions.Parse(parsed.GetValue(s_fuseOption) ?? []);
        CacheMode cache = Cache(parsed.GetValue(s_cache), fuse);
        if (cache == CacheMode.Writeback && (parsed.GetValue(s_all) || parsed.GetValue(s_partitions)))
        {
            // The kernel would keep the sizes that the list told, and the same bytes in several files.
            throw new UsageException("--cache=writeback is for the mount of one export: not for --all and --partitions");
        }

        NbdClientOptions client = new()
        {
            MetaContexts = [ExportFile.AllocationContext],
            Connections = parsed.GetValue(s_connections),
            Tls = TlsArguments.Read(parsed, uri),
        };
        return new Invocation
        {
            Mountpoint = operands[0],
            Endpoint = endpoint,
            ExportName = uri?.ExportName ?? exportOption ?? "",
            Client = parsed.GetValue(s_connectTimeout) is int seconds
                ? client with { ConnectTimeout = TimeSpan.FromSeconds(seconds) }
                : client,
            Fuse = fuse,
            Cache = parsed.GetValue(s_partitions) ? CacheMode.None : cache,
            Mode = Mode(parsed.GetValue(s_mode)),
            UserId = (uint?)parsed.GetValue(s_userId),
            GroupId = (uint?)parsed.GetValue(s_groupId),
            All = parsed.GetValue(s_all),
            Partitions = parsed.GetValue(s_partitions),
            Transport = Transport(parsed.GetValue(s_transport)),
            PidFile = parsed.GetValue(s_pidFile),
            ReadAheadBytes = ReadAheadSize.Parse(parsed.GetValue(s_readAhead)),
            ReadOnly = parsed.GetValue(s_readOnly),
            SingleThreaded = parsed.GetValue(s_singleThreaded),
            Verbose = parsed.GetValue(s_verbose) || parsed.GetValue(s_debug),
            Debug = parsed.GetValue(s_debug),
        };
    }

    private static string? TextAskedFor(ParseResult parsed)
    {
        if (parsed.GetValue(s_help))
        {
            return HelpText.Usage;
        }

        if (parsed.GetValue(s_fuseHelp))
        {
            return HelpText.FuseOptions;
        }

        if (parsed.GetValue(s_version))
        {
            return HelpText.Version;
        }

        return parsed.GetValue(s_longOptions) || parsed.GetValue(s_shortOptions)
            ? string.Join('\n', OptionTable.Names(isLong: parsed.GetValue(s_longOptions)))
            : null;
    }

    private static Command Root()
    {
        Command root = new("nbdfuse")
        {
            s_all, s_cache, s_groupId, s_mode, s_userId, s_connections, s_connectTimeout, s_debug, s_export, s_fuseHelp, s_fuseOption, s_help, s_longOptions,
            s_partitions, s_pidFile, s_readAhead, s_readOnly, s_shortOptions, s_singleThreaded, s_transport,
            s_verbose, s_version,
        };
        TlsArguments.AddTo(root);
        return root;
    }

    private static RequestTransport Transport(string? text) => text switch
    {
        null or "auto" => RequestTransport.Auto,
        "device" => RequestTransport.Device,
        "uring" => RequestTransport.Uring,
        _ => throw new UsageException($"{OptionTable.Transport.Names[0]} must be auto, device or uring, not '{text}'"),
    };

    private static CacheMode Cache(string? text, FuseOptions fuse) => text switch
    {
        null => fuse.DirectIo ? CacheMode.None : CacheMode.Writethrough,
        "none" => CacheMode.None,
        "writethrough" or "writeback" when fuse.DirectIo =>
            throw new UsageException($"-o direct_io is --cache=none and excludes --cache={text}"),
        "writethrough" => CacheMode.Writethrough,
        "writeback" => CacheMode.Writeback,
        _ => throw new UsageException($"--cache must be none, writethrough or writeback, not '{text}'"),
    };

    private static uint? Mode(string? text) => text is null
        ? null
        : Permissions.TryParse(text)
            ?? throw new UsageException($"--mode must be an octal number from 0 to 777, not '{text}'");

    private static Option<bool> Flag(OptionForm form) => new(form.Names[0], form.Names[1..]);

    private static Option<string?> Text(OptionForm form) => new(form.Names[0], form.Names[1..]);

    private static Option<int?> Number(OptionForm form, int minimum, int maximum) => new(form.Names[0], form.Names[1..])
    {
        CustomParser = result =>
        {
            string text = result.Tokens[0].Value;
            if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                && number >= minimum && number <= maximum)
            {
                return number;
            }

            result.AddError($"{string.Join('/', form.Names)} must be a number from {minimum} to {maximum}, not '{text}'");
            return null;
        },
    };
}
