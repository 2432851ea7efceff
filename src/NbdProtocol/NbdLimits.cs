namespace Nbd.Protocol;

/// <summary>Limits of the specification and, where it has none, those that this project enforces.</summary>
public static class NbdLimits
{
    /// <summary>Longest string of the handshake, in bytes of UTF-8 (proto.md, "Values", "string").</summary>
    public const int MaximumStringBytes = 4096;

    /// <summary>Largest payload accepted for READ and WRITE, whatever a server announces, in bytes.</summary>
    public const int MaximumPayloadBytes = 64 * 1024 * 1024;

    /// <summary>Largest minimum block size that a server may ask for, in bytes.</summary>
    public const int MaximumMinimumBlockBytes = 64 * 1024;

    /// <summary>Smallest preferred block size that a server may name, in bytes.</summary>
    public const int MinimumPreferredBlockBytes = 512;

    /// <summary>Largest export size that file offsets can address, in bytes.</summary>
    public const ulong MaximumExportBytes = long.MaxValue;
}
