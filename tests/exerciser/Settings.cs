using System.Globalization;

namespace Exerciser;

/// <summary>When what was written must be in the backing image.</summary>
internal enum Promise
{
    /// <summary>When the write returns.</summary>
    Write,

    /// <summary>When fsync(2), fdatasync(2), msync(2) or a write with O_DSYNC returns.</summary>
    Sync,
}

/// <summary>What the command line says.</summary>
internal sealed record Settings
{
    public const string Usage =
        """
        usage: exerciser [OPTION VALUE]... FILE
        Random operations of several threads on FILE, a disk image of fixed size, against a model in memory.
          --seed N           the sequence of operations (default: random; always printed)
          --ops N            operations of each thread (default: 2000; 0: until --seconds are over)
          --seconds N        stop after this time (default: none)
          --threads N        threads (default: 4)
          --granule BYTES    threads share no granule at one time (default: 4096; below that mmap is not used)
          --max-length BYTES of one operation (default: 262144)
          --backing FILE     the image that the server writes to: compared after writes, syncs and at the end
          --promise WHEN     when it is in there: write or sync (default: write)
          --without LIST     operations to leave out, separated by commas: direct mmap append copy seek ...,
                             or overrun: nothing goes beyond the end
          --save-model FILE  writes there what FILE must contain at the end
        """;

    public required string File { get; init; }

    public int Seed { get; init; } = Random.Shared.Next();

    public int Operations { get; init; } = 2000;

    public TimeSpan? Duration { get; init; }

    public int Threads { get; init; } = 4;

    public int Granule { get; init; } = 4096;

    public int MaxLength { get; init; } = 256 << 10;

    public string? Backing { get; init; }

    public Promise Promise { get; init; }

    public IReadOnlySet<string> Without { get; init; } = new HashSet<string>();

    public string? SavedModel { get; init; }

    /// <summary>The settings of a command line.</summary>
    /// <exception cref="FormatException">It is wrong.</exception>
    public static Settings Parse(string[] arguments)
    {
        if (arguments.Length % 2 != 1 || arguments[^1].StartsWith("--", StringComparison.Ordinal))
        {
            throw new FormatException("one FILE is needed, and a value for each option");
        }

        Settings settings = new() { File = arguments[^1] };
        for (int i = 0; i + 1 < arguments.Length; i += 2)
        {
            settings = settings.With(arguments[i], arguments[i + 1]);
        }

        return settings.Operations == 0 && settings.Duration is null
            ? throw new FormatException("--ops 0 needs --seconds")
            : settings;
    }

    private Settings With(string option, string value) => option switch
    {
        "--seed" => this with { Seed = Number(value, int.MinValue) },
        "--ops" => this with { Operations = Number(value, 0) },
        "--seconds" => this with { Duration = TimeSpan.FromSeconds(Number(value, 1)) },
        "--threads" => this with { Threads = Number(value, 1) },
        "--granule" => this with { Granule = Number(value, 1) },
        "--max-length" => this with { MaxLength = Number(value, 1) },
        "--backing" => this with { Backing = value },
        "--promise" => this with { Promise = Enum.Parse<Promise>(value, ignoreCase: true) },
        "--without" => this with { Without = value.Split(',').ToHashSet() },
        "--save-model" => this with { SavedModel = value },
        _ => throw new FormatException($"unknown option {option}"),
    };

    private static int Number(string text, int least) =>
        int.TryParse(text, CultureInfo.InvariantCulture, out int value) && value >= least
            ? value
            : throw new FormatException($"'{text}' is not a number from {least} on");
}
