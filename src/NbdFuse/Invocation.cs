using Nbd;

namespace NbdFuse;

/// <summary>What the command line asks for.</summary>
internal sealed record Invocation
{
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

    internal string? PidFile { get; init; }

    internal bool ReadOnly { get; init; }

    internal bool SingleThreaded { get; init; }

    /// <summary>What happens is told on standard error.</summary>
    internal bool Verbose { get; init; }

    /// <summary>Every request is told on standard error.</summary>
    internal bool Debug { get; init; }
}
