using System.CommandLine;
using System.Globalization;
using System.Net;

namespace NbdServe;

/// <summary>The command line: nbdserve BACKEND [ARGS] [OPTIONS], in any order.</summary>
internal static class CommandLine
{
    private static readonly Option<bool> s_exitWithParent = new("--exit-with-parent");
    private static readonly Option<string[]> s_export = new("--export") { AllowMultipleArgumentsPerToken = false };
    private static readonly Option<bool> s_help = new("--help");
    private static readonly Option<bool> s_longOptions = new("--long-options");
    private static readonly Option<string?> s_pidFile = new("--pidfile", "--pid-file", "-P");
    private static readonly Option<bool> s_readOnly = new("--readonly", "--read-only", "-r");
    private static readonly Option<string?> s_run = new("--run");
    private static readonly Option<bool> s_shortOptions = new("--short-options");
    private static readonly Option<bool> s_standardStreams = new("-s");
    private static readonly Option<string?> s_tcp = new("--tcp");
    private static readonly Option<string?> s_tls = new("--tls");
    private static readonly Option<string?> s_tlsCertificates = new("--tls-certificates");
    private static readonly Option<bool> s_tlsVerifyPeer = new("--tls-verify-peer");
    private static readonly Option<string?> s_unix = new("--unix", "-U");
    private static readonly Option<bool> s_verbose = new("--verbose", "-v");
    private static readonly Option<bool> s_version = new("--version", "-V");

    /// <summary>
    /// Reads the command line. Null when it asked for a text that <paramref name="output"/> got.
    /// </summary>
    /// <exception cref="UsageException">The command line is wrong.</exception>
    internal static Invocation? Parse(string[] arguments, TextWriter output)
    {
        Command command = Root();
        ParseResult parsed = ToolOptions.Parse(command, arguments);
        if (TextAskedFor(command, parsed) is string text)
        {
            output.WriteLine(text);
            return null;
        }

        (TlsMode tls, string? certificates) = Tls(parsed);
        Invocation invocation = new()
        {
            Exports = Exports(parsed),
            UnixSocket = parsed.GetValue(s_unix),
            Tcp = parsed.GetValue(s_tcp) is string tcp ? TcpAddress(tcp) : null,
            StandardStreams = parsed.GetValue(s_standardStreams),
            Run = parsed.GetValue(s_run),
            ReadOnly = parsed.GetValue(s_readOnly),
            Tls = tls,
            TlsCertificates = certificates,
            TlsVerifyPeer = parsed.GetValue(s_tlsVerifyPeer),
            PidFile = parsed.GetValue(s_pidFile),
            ExitWithParent = parsed.GetValue(s_exitWithParent),
            Verbose = parsed.GetValue(s_verbose),
        };
        return invocation.StandardStreams
            && (invocation.UnixSocket ?? invocation.Run ?? parsed.GetValue(s_tcp)) is not null
            ? throw new UsageException("-s is for one client on standard input and output: no --unix, --tcp, --run")
            : invocation;
    }

    private static Command Root()
    {
        Command command = new("nbdserve")
        {
            s_exitWithParent, s_export, s_help, s_longOptions, s_pidFile, s_readOnly, s_run, s_shortOptions,
            s_standardStreams, s_tcp, s_tls, s_tlsCertificates, s_tlsVerifyPeer, s_unix, s_verbose, s_version,
        };
        BackendArguments.AddTo(command);
        return command;
    }

    private static string? TextAskedFor(Command command, ParseResult parsed)
    {
        if (parsed.GetValue(s_help))
        {
            return HelpText.Usage;
        }

        if (parsed.GetValue(s_version))
        {
            return HelpText.Version;
        }

        bool isLong = parsed.GetValue(s_longOptions);
        return isLong || parsed.GetValue(s_shortOptions)
            ? string.Join('\n', command.Options
                .SelectMany(option => option.Aliases.Append(option.Name))
                .Where(name => name.StartsWith("--", StringComparison.Ordinal) == isLong)
                .Where(name => name != s_longOptions.Name && name != s_shortOptions.Name)
                .Order(StringComparer.Ordinal))
            : null;
    }

    /// <summary>The backend of the command line under the one --export NAME, then all --export NAME=BACKEND.</summary>
    private static List<ExportArguments> Exports(ParseResult parsed)
    {
        List<ExportArguments> exports = [];
        string? name = null;
        foreach (string text in parsed.GetValue(s_export) ?? [])
        {
            int equals = text.IndexOf('=', StringComparison.Ordinal);
            if (equals >= 0)
            {
                exports.Add(new(text[..equals], BackendArguments.Parse(text[(equals + 1)..])));
            }
            else
            {
                name = name is null ? text : throw new UsageException("only one --export can be without '=BACKEND'");
            }
        }

        if (BackendArguments.From(parsed) is BackendArguments backend)
        {
            exports.Insert(0, new(name ?? "", backend));
        }
        else if (name is not null || exports.Count == 0)
        {
            throw new UsageException("no BACKEND given (try 'nbdserve --help')");
        }

        if (exports.GroupBy(export => export.Name).FirstOrDefault(group => group.Count() > 1) is { Key: string twice })
        {
            throw new UsageException($"two exports have the name '{twice}'");
        }

        return exports;
    }

    private static (IPAddress Address, int Port) TcpAddress(string text)
    {
        int colon = text.LastIndexOf(':');
        string host = colon < 0 ? "" : text[..colon];
        host = host is "" or "localhost" ? "127.0.0.1" : host.TrimStart('[').TrimEnd(']');
        return IPAddress.TryParse(host, out IPAddress? address)
            && ushort.TryParse(text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out ushort port)
            ? (address, port)
            : throw new UsageException(
                $"--tcp must be followed by a PORT or ADDRESS:PORT such as 0.0.0.0:10809 or [::]:10809, not '{text}'");
    }

    private static (TlsMode Mode, string? Certificates) Tls(ParseResult parsed)
    {
        string? folder = parsed.GetValue(s_tlsCertificates);
        TlsMode mode = parsed.GetValue(s_tls) switch
        {
            null => folder is null ? TlsMode.Off : TlsMode.Require,
            "off" => TlsMode.Off,
            "on" => TlsMode.On,
            "require" => TlsMode.Require,
            string other => throw new UsageException($"--tls must be require, on or off, not '{other}'"),
        };
        return mode != TlsMode.Off && folder is null ? throw new UsageException("--tls needs --tls-certificates DIR")
            : mode == TlsMode.Off && parsed.GetValue(s_tlsVerifyPeer)
                ? throw new UsageException("--tls-verify-peer needs --tls-certificates DIR, and not --tls off")
            : (mode, folder);
    }
}
