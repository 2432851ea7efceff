using Fuse;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// A READ that is answered from blocks, and holds them until then. Guarded by the lock of its <see cref="ReadAhead"/>,
/// except that whoever answers it may look at it without.
/// </summary>
internal sealed unsafe class QueuedRead
{
    /// <summary>Most blocks that one READ is answered from: more only if many of them are very small.</summary>
    internal const int MaximumBlocks = 8;

    private readonly ReadAheadBlock?[] _blocks = new ReadAheadBlock?[MaximumBlocks];

    /// <summary>What is to be answered; nobody's when there are no blocks.</summary>
    internal FuseRequest Request { get; private set; } = null!;

    /// <summary>First byte in the export.</summary>
    internal ulong Offset { get; private set; }

    /// <summary>Bytes.</summary>
    internal uint Length { get; private set; }

    /// <summary>The blocks that have it all, in the order of the export.</summary>
    internal ReadOnlySpan<ReadAheadBlock?> Blocks => _blocks.AsSpan(0, Count);

    /// <summary>How many there are.</summary>
    internal int Count { get; private set; }

    /// <summary>The next one that waits for the same block, or that is ready to be answered, or that is idle.</summary>
    internal QueuedRead? Next { get; set; }

    /// <summary>The first block that is still on its way; null when none is, or when one failed.</summary>
    internal ReadAheadBlock? FirstMissing
    {
        get
        {
            ReadAheadBlock? missing = null;
            foreach (ReadAheadBlock? block in Blocks)
            {
                if (block!.HasFailed)
                {
                    return null;
                }

                missing ??= block.HasArrived ? null : block;
            }

            return missing;
        }
    }

    /// <summary>Whether a part of the data could not be read.</summary>
    internal bool HasFailed
    {
        get
        {
            foreach (ReadAheadBlock? block in Blocks)
            {
                if (block!.HasFailed)
                {
                    return true;
                }
            }

            return false;
        }
    }

    internal void Begin(FuseRequest request, ulong offset, uint length) =>
        (Request, Offset, Length, Count) = (request, offset, length, 0);

    internal void Add(ReadAheadBlock block) => _blocks[Count++] = block;

    internal void Clear()
    {
        Array.Clear(_blocks, 0, Count);
        (Request, Count, Next) = (null!, 0, null);
    }

    /// <summary>Points to the data.</summary>
    /// <param name="parts">One for each block.</param>
    internal void GetParts(iovec* parts)
    {
        ulong position = Offset;
        ulong end = Offset + Length;
        foreach (ReadAheadBlock? block in Blocks)
        {
            ulong partEnd = Math.Min(end, block!.End);
            parts->iov_base = block.Data + (position - block.Offset);
            parts->iov_len = (int)(partEnd - position);
            parts++;
            position = partEnd;
        }
    }
}
