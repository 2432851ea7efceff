namespace Fuse;

/// <summary>What the kernel and this library agreed on. A read-only fact once the session is initialized.</summary>
public sealed record FuseLimits
{
    /// <summary>The minor version of the protocol that both sides know; the major one is 7.</summary>
    public required uint Minor { get; init; }

    /// <summary>The agreed features.</summary>
    public required FuseInitFlags Flags { get; init; }

    /// <summary>Most bytes of one WRITE.</summary>
    public required uint MaxWriteBytes { get; init; }

    /// <summary>Most bytes of one READ.</summary>
    public required uint MaxReadBytes { get; init; }

    /// <summary>Most bytes that the kernel reads ahead by itself.</summary>
    public required uint MaxReadAheadBytes { get; init; }

    /// <summary>Most background requests in flight.</summary>
    public required ushort MaxBackground { get; init; }
}
