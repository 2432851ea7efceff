using Nbd;

namespace NbdFuse;

/// <summary>What the command line asks for.</summary>
internal sealed record Invocation
{
    internal const long DefaultReadAheadBytes = 32 << 20;

    /// <summary>MOUNTPOINT[/FILENAME] as it was typed.</summary>
    internal required string Mountpoint { get; init; }

    internal required NbdEndpoint Endpoint { get; init; }

    internal required string ExportName { get; init; }

    internal required NbdClientOptions Client { get; init; }

    internal required FuseOptions Fuse { get; init; }

    internal CacheMode Cache { get; init; }

    /// <summary>Permissions of the file.</summary>
    internal uint? Mode { get; init; }

    /// <summary>Owner of the file.</summary>
    internal uint? UserId { get; init; }

    /// <summary>Group of the file.</summary>
    internal uint? GroupId { get; init; }

    /// <summary>Every export of the server is a file.</summary>
    internal bool All { get; init; }

    /// <summary>The disk's partitions are files, too.</summary>
    internal bool Partitions { get; init; }

    internal RequestTransport Transport { get; init; }

    internal string? PidFile { get; init; }

    internal bool ReadOnly { get; init; }

    /// <summary>Most that is read ahead of one reader, in bytes; twice as much in all. 0: nothing.</summary>
    internal long ReadAheadBytes { get; init; } = DefaultReadAheadBytes;

    internal bool SingleThreaded { get; init; }

    /// <summary>What happens is told on standard error.</summary>
    internal bool Verbose { get; init; }

    /// <summary>Every request is told on standard error.</summary>
    internal bool Debug { get; init; }
}
