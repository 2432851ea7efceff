using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// A range of the export that was asked for before anybody needed it. Everything but <see cref="OnCompleted"/> belongs
/// to the <see cref="ReadAhead"/> and is guarded by its lock; the data may be read while the block is held.
/// </summary>
/// <remarks>
/// Holders are the table of live blocks, the command that fills the block, and each READ that waits for it or is being
/// answered from it. The memory is free when there is none. A block that leaves the table answers only those READs
/// that it has by then.
/// </remarks>
internal sealed unsafe class ReadAheadBlock(ReadAhead owner) : NbdCompletion
{
    /// <summary>First byte in the export.</summary>
    internal ulong Offset { get; private set; }

    /// <summary>Bytes.</summary>
    internal uint Length { get; private set; }

    /// <summary>First byte behind it in the export.</summary>
    internal ulong End => Offset + Length;

    /// <summary>Its place in the <see cref="BlockMemory"/>.</summary>
    internal int Slot { get; private set; }

    /// <summary>Its first byte in memory.</summary>
    internal byte* Data { get; private set; }

    /// <summary>Who asked for it; null when that stream is over.</summary>
    internal ReadAheadStream? Stream { get; set; }

    /// <summary>Whether the command that fills it has completed.</summary>
    internal bool HasArrived { get; private set; }

    /// <summary>Whether that command failed.</summary>
    internal bool HasFailed { get; private set; }

    /// <summary>When it was asked for, and when it came.</summary>
    internal long Time { get; private set; }

    /// <summary>Bytes that READs were answered from, counting those that several had.</summary>
    internal ulong UsedBytes { get; set; }

    /// <summary>How many still need its memory.</summary>
    internal int Holders { get; set; }

    /// <summary>The READs that wait for it, newest first.</summary>
    internal QueuedRead? Waiting { get; set; }

    /// <summary>The next one in the list of idle blocks, or of those to send.</summary>
    internal ReadAheadBlock? Next { get; set; }

    /// <summary>Makes it a block that is on its way.</summary>
    internal void Begin(ulong offset, uint length, int slot, byte* data, ReadAheadStream stream, long now)
    {
        Data = data;
        (Offset, Length, Slot, Stream, Time) = (offset, length, slot, stream, now);
        (HasArrived, HasFailed, UsedBytes, Holders, Waiting, Next) = (false, false, 0, 0, null, null);
    }

    /// <summary>Notes the end of its command.</summary>
    internal void Finish(bool hasFailed, long now) => (HasArrived, HasFailed, Time) = (true, hasFailed, now);

    /// <summary>Whether it contains a byte.</summary>
    internal bool Contains(ulong offset) => offset - Offset < Length;

    /// <summary>Whether it has a byte of a range.</summary>
    internal bool Overlaps(ulong start, ulong end) => Offset < end && start < End;

    /// <inheritdoc/>
    protected override void OnCompleted(Errno outcome, byte* data) => owner.Arrived(this, outcome);
}
