using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using NbdServe.Backends;

namespace NbdServe;

/// <summary>A backend as the command line describes it: its name, its operand, its options.</summary>
internal sealed record BackendArguments
{
    private const string SparseRandomName = "sparse-random";

    private static readonly string[] s_kinds = ["memory", "file", "pattern", "null", SparseRandomName];

    private static readonly Option<string?> s_create = new("--create");
    private static readonly Option<string?> s_percent = new("--percent");
    private static readonly Option<bool> s_randomContent = new("--random-content");
    private static readonly Option<string?> s_runLength = new("--runlength");
    private static readonly Option<string?> s_seed = new("--seed");

    private static readonly Argument<string[]> s_words = new("BACKEND") { Arity = ArgumentArity.ZeroOrMore };

    /// <summary>One of the names that the manual lists.</summary>
    internal required string Kind { get; init; }

    /// <summary>For all but "file".</summary>
    internal long SizeBytes { get; init; }

    /// <summary>For "file".</summary>
    internal string Path { get; init; } = "";

    /// <summary>For "file": it is made, with this size.</summary>
    internal long? CreateBytes { get; init; }

    /// <summary>For "sparse-random".</summary>
    internal SparseRandomOptions? SparseRandom { get; init; }

    /// <summary>What a command that describes a backend is made of.</summary>
    internal static void AddTo(Command command)
    {
        command.Add(s_words);
        foreach (Option option in (Option[])[s_create, s_percent, s_randomContent, s_runLength, s_seed])
        {
            command.Add(option);
        }
    }

    /// <summary>Reads a backend from a text, as it stands after "--export NAME=".</summary>
    internal static BackendArguments Parse(string text)
    {
        Command command = new("export");
        AddTo(command);
        return From(ToolOptions.Parse(command, [.. CommandLineParser.SplitCommandLine(text)]))
            ?? throw new UsageException($"a BACKEND must follow the '=' (one of {KindList})");
    }

    /// <summary>Reads a backend from a command line; null if there is none.</summary>
    /// <exception cref="UsageException">It is wrong.</exception>
    internal static BackendArguments? From(ParseResult parsed)
    {
        string[] words = parsed.GetValue(s_words) ?? [];
        if (words.FirstOrDefault(word => word.Length > 1 && word[0] == '-') is string option)
        {
            throw new UsageException($"unknown option '{option}'");
        }

        if (words.Length == 0)
        {
            return null;
        }

        string kind = words[0];
        if (!s_kinds.Contains(kind))
        {
            throw new UsageException($"unknown backend '{kind}' (there are {KindList})");
        }

        CheckOptions(parsed, kind);
        string operandName = kind == "file" ? "PATH" : "SIZE";
        if (words.Length != 2)
        {
            throw new UsageException(words.Length < 2
                ? $"{kind} must be followed by {operandName}"
                : $"unexpected word '{words[2]}' after {kind} {operandName}");
        }

        BackendArguments backend = new() { Kind = kind };
        if (kind == "file")
        {
            string? create = parsed.GetValue(s_create);
            return backend with
            {
                Path = words[1],
                CreateBytes = create is null ? null : SizeText.Parse("--create", create),
            };
        }

        long size = SizeText.Parse(kind + " SIZE", words[1]);
        return backend with
        {
            SizeBytes = size,
            SparseRandom = kind == SparseRandomName ? SparseRandomFrom(parsed, size) : null,
        };
    }

    private static string KindList => string.Join(", ", s_kinds);

    private static void CheckOptions(ParseResult parsed, string kind)
    {
        foreach (Option option in (Option[])[s_percent, s_randomContent, s_runLength, s_seed])
        {
            if (kind != SparseRandomName && parsed.GetResult(option) is { Implicit: false })
            {
                throw new UsageException($"{option.Name} is for the backend {SparseRandomName}");
            }
        }

        if (kind != "file" && parsed.GetResult(s_create) is not null)
        {
            throw new UsageException("--create is for the backend file");
        }
    }

    private static SparseRandomOptions SparseRandomFrom(ParseResult parsed, long size)
    {
        SparseRandomOptions options = new() { SizeBytes = size, IsRandomContent = parsed.GetValue(s_randomContent) };
        if (parsed.GetValue(s_seed) is string seed)
        {
            options = options with
            {
                Seed = long.TryParse(seed, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number)
                    ? number
                    : throw new UsageException($"--seed must be a whole number, not '{seed}'"),
            };
        }

        if (parsed.GetValue(s_percent) is string percent)
        {
            options = options with
            {
                Percent = decimal.TryParse(
                    percent, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number)
                    && number is >= 0.000001m and <= 100
                    ? number
                    : throw new UsageException($"--percent must be more than 0 and at most 100, not '{percent}'"),
            };
        }

        if (parsed.GetValue(s_runLength) is string runLength)
        {
            options = options with { RunLengthBytes = SizeText.Parse("--runlength", runLength) };
        }

        return options;
    }
}
