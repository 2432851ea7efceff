using Nbd.Protocol;

namespace Nbd;

/// <summary>What a server said about an export during the handshake. Immutable.</summary>
public sealed record NbdExport
{
    /// <summary>Smallest block that any server must accept unless it said otherwise, in bytes.</summary>
    public const int DefaultMinimumBlockBytes = 1;

    /// <summary>Preferred block size of a server that named none, in bytes.</summary>
    public const int DefaultPreferredBlockBytes = 4096;

    /// <summary>Largest payload of a server that named none, in bytes (proto.md, "Size constraints").</summary>
    public const int DefaultMaximumPayloadBytes = 32 * 1024 * 1024;

    private readonly MetaContextNames _metaContexts = MetaContextNames.None;

    /// <summary>The name that was asked for; "" is the server's default export.</summary>
    public string Name { get; init; } = "";

    /// <summary>
    /// The server's own name for the export, as it was sent: not fit to be printed as it is. Null if it gave none, or
    /// was not asked (see <see cref="NbdClientOptions.FullInfo"/>).
    /// </summary>
    public string? CanonicalName { get; init; }

    /// <summary>
    /// The server's description of the export, made printable; null as for <see cref="CanonicalName"/>.
    /// </summary>
    public string? Description { get; init; }

    /// <summary>Size in bytes, 0 to 2^63-1.</summary>
    public required long SizeBytes { get; init; }

    /// <summary>
    /// The transmission flags, without bits that are unknown or mean nothing on this connection (DF without
    /// structured replies, FAST_ZERO without WRITE_ZEROES).
    /// </summary>
    public required NbdTransmissionFlags Flags { get; init; }

    /// <summary>
    /// Smallest block in bytes, a power of two from 1 to 65536: offset and length of every command must be
    /// multiples of it.
    /// </summary>
    public int MinimumBlockBytes { get; init; } = DefaultMinimumBlockBytes;

    /// <summary>Block size that the server likes best, in bytes: a power of two, at least 512.</summary>
    public long PreferredBlockBytes { get; init; } = DefaultPreferredBlockBytes;

    /// <summary>Largest payload of one READ or WRITE, in bytes; at most 64 MiB.</summary>
    public int MaximumPayloadBytes { get; init; } = DefaultMaximumPayloadBytes;

    /// <summary>
    /// Whether replies come in chunks (proto.md, "Structured replies"): the server need not send what it knows to be zero.
    /// True also with <see cref="ExtendedHeaders"/>.
    /// </summary>
    public bool StructuredReplies { get; init; }

    /// <summary>
    /// Whether requests and replies have extended headers, so that commands without data, and what BLOCK_STATUS says,
    /// may have 64 bits of length (extended header extension of proto.md).
    /// </summary>
    public bool ExtendedHeaders { get; init; }

    /// <summary>
    /// The meta contexts that the server selected, sorted by their UTF-16 code units; at most
    /// <see cref="NbdClientOptions.MaximumMetaContexts"/>. BLOCK_STATUS is answered for each of them.
    /// </summary>
    public IReadOnlyList<string> MetaContexts
    {
        get => _metaContexts;
        init => _metaContexts = value as MetaContextNames ?? new MetaContextNames(value);
    }

    /// <summary>Whether every change is refused.</summary>
    public bool IsReadOnly => Flags.HasFlag(NbdTransmissionFlags.ReadOnly);

    /// <summary>Whether FLUSH is supported.</summary>
    public bool CanFlush => Flags.HasFlag(NbdTransmissionFlags.SendFlush);

    /// <summary>Whether a single command can be made durable (FUA).</summary>
    public bool CanForceUnitAccess => Flags.HasFlag(NbdTransmissionFlags.SendForceUnitAccess);

    /// <summary>Whether TRIM is supported.</summary>
    public bool CanTrim => Flags.HasFlag(NbdTransmissionFlags.SendTrim);

    /// <summary>Whether WRITE_ZEROES is supported.</summary>
    public bool CanWriteZeroes => Flags.HasFlag(NbdTransmissionFlags.SendWriteZeroes);

    /// <summary>Whether WRITE_ZEROES can be told to fail rather than be slow.</summary>
    public bool CanFastZero => Flags.HasFlag(NbdTransmissionFlags.SendFastZero);

    /// <summary>Whether several connections see one another's writes and flushes, so that they may be mixed.</summary>
    public bool CanMultiConn => Flags.HasFlag(NbdTransmissionFlags.CanMultiConn);

    /// <summary>Whether CACHE is supported.</summary>
    public bool CanCache => Flags.HasFlag(NbdTransmissionFlags.SendCache);

    /// <summary>Whether a READ can be answered in one piece.</summary>
    public bool CanDontFragment => Flags.HasFlag(NbdTransmissionFlags.SendDontFragment);

    /// <summary>Whether the medium rotates.</summary>
    public bool IsRotational => Flags.HasFlag(NbdTransmissionFlags.Rotational);

    /// <summary>Whether BLOCK_STATUS can be limited to some of the <see cref="MetaContexts"/>.</summary>
    public bool CanFilterMetaContexts => Flags.HasFlag(NbdTransmissionFlags.BlockStatusPayload);
}
