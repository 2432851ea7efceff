namespace NbdFuse;

/// <summary>What an export allows to read ahead. Immutable.</summary>
internal sealed record ReadAheadLimits
{
    /// <summary>Smaller blocks are only asked for where the server takes no larger ones.</summary>
    internal const uint UsualSmallestBlock = 256 << 10;

    /// <summary>Nothing from here on: the end of the export, or of its last whole minimum block.</summary>
    internal required ulong EndBytes { get; init; }

    /// <summary>Blocks start at multiples of it: a power of two.</summary>
    internal required uint UnitBytes { get; init; }

    /// <summary>Smallest block to ask for; only the first and the last one of a stream may be smaller.</summary>
    internal required uint SmallestBlockBytes { get; init; }

    /// <summary>Largest block: a multiple of the unit, at most <see cref="BlockMemory.SlotBytes"/>.</summary>
    internal required uint LargestBlockBytes { get; init; }

    /// <summary>Most that is read ahead of one stream.</summary>
    internal required uint LargestWindowBytes { get; init; }

    /// <summary>Bytes of the blocks for a window: two make a small one.</summary>
    internal uint BlockBytes(uint window) =>
        Math.Min(Math.Max(window / 2, SmallestBlockBytes), LargestBlockBytes) & ~(UnitBytes - 1);
}
