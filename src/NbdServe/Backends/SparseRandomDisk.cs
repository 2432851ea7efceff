using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace NbdServe.Backends;

/// <summary>
/// The content of a disk that is mostly holes: islands of data, as a function of seed and offset alone. The disk is
/// cut into cells of the same size; each cell holds one island, whose length (the run length on average) and place
/// come from a hash of the cell's number. Immutable.
/// </summary>
internal sealed class SparseRandomDisk
{
    internal const int BlockBytes = 4096;

    // The increment and the mixer of SplitMix64: any counter gives an independent word.
    private const ulong Golden = 0x9e3779b97f4a7c15;
    private const int WordBytes = sizeof(ulong);

    private readonly ulong _seed;
    private readonly bool _isRandomContent;
    private readonly long _cellBlocks;
    private readonly long _shortestIsland;
    private readonly long _longestIsland;

    internal SparseRandomDisk(SparseRandomOptions options)
    {
        SizeBytes = options.SizeBytes;
        _seed = Mix((ulong)options.Seed + Golden);
        _isRandomContent = options.IsRandomContent;

        // A disk smaller than a cell is one cell: it has an island too.
        long diskBlocks = Math.Max(1, (long)(((ulong)SizeBytes + BlockBytes - 1) / BlockBytes));
        decimal run = Math.Max(1, options.RunLengthBytes / BlockBytes);
        _cellBlocks = (long)Math.Clamp(Math.Ceiling(run * 100 / options.Percent), 1, diskBlocks);
        long average = (long)Math.Clamp(_cellBlocks * options.Percent / 100, 1, _cellBlocks);
        long spread = Math.Min(average / 2, _cellBlocks - average);
        (_shortestIsland, _longestIsland) = (average - spread, average + spread);
    }

    internal long SizeBytes { get; }

    /// <summary>Whether <paramref name="offset"/> is in an island, and where that changes (at most the size).</summary>
    internal (bool IsData, long End) RunAt(long offset)
    {
        long block = offset / BlockBytes;
        long cell = block / _cellBlocks;
        (long start, long end) = IslandOf(cell);
        if (block >= end)
        {
            (start, end) = (cell + 1) * (Int128)_cellBlocks * BlockBytes < SizeBytes
                ? IslandOf(cell + 1)
                : (long.MaxValue, long.MaxValue);
        }

        bool isData = block >= start;
        return (isData, (long)Int128.Min((Int128)(isData ? end : start) * BlockBytes, SizeBytes));
    }

    /// <summary>What the disk holds.</summary>
    internal void Read(long offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            (bool isData, long end) = RunAt(offset);
            Span<byte> part = destination[..(int)Math.Min(destination.Length, end - offset)];
            if (isData)
            {
                ReadIsland(offset, part);
            }
            else
            {
                part.Clear();
            }

            destination = destination[part.Length..];
            offset += part.Length;
        }
    }

    /// <summary>Offset of the first byte that differs from what the disk holds; -1 if there is none.</summary>
    internal long FindDifference(long offset, ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            (bool isData, long end) = RunAt(offset);
            ReadOnlySpan<byte> part = data[..(int)Math.Min(data.Length, end - offset)];
            int difference = isData ? CompareIsland(offset, part) : part.IndexOfAnyExcept((byte)0);
            if (difference >= 0)
            {
                return offset + difference;
            }

            data = data[part.Length..];
            offset += part.Length;
        }

        return -1;
    }

    /// <summary>Offset of the first byte in a range that is not zero; -1 if there is none.</summary>
    internal long FindNonZero(long offset, long length)
    {
        Span<byte> block = stackalloc byte[BlockBytes];
        long rangeEnd = offset + length;
        while (offset < rangeEnd)
        {
            (bool isData, long end) = RunAt(offset);
            end = Math.Min(end, rangeEnd);
            for (; isData && offset < end; offset += block.Length)
            {
                block = block[..(int)Math.Min(BlockBytes, end - offset)];
                ReadIsland(offset, block);
                int difference = block.IndexOfAnyExcept((byte)0);
                if (difference >= 0)
                {
                    return offset + difference;
                }
            }

            offset = end;
        }

        return -1;
    }

    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
        value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
        return value ^ (value >> 31);
    }

    /// <summary>First block and block after the last of a cell's island.</summary>
    private (long Start, long End) IslandOf(long cell)
    {
        ulong hash = Mix(_seed ^ ((ulong)cell * Golden));
        long length = _shortestIsland + Below(hash, _longestIsland - _shortestIsland + 1);
        long start = (cell * _cellBlocks) + Below(Mix(hash), _cellBlocks - length + 1);
        return (start, start + length);
    }

    /// <summary>A number from 0 to <paramref name="limit"/> - 1.</summary>
    private static long Below(ulong hash, long limit) => (long)Math.BigMul(hash, (ulong)limit, out _);

    private void ReadIsland(long offset, Span<byte> destination)
    {
        if (_isRandomContent)
        {
            ReadRandom(offset, destination);
            return;
        }

        while (destination.Length > 0)
        {
            Span<byte> part = destination[..(int)Math.Min(destination.Length, BlockBytes - (offset % BlockBytes))];
            part.Fill(ByteOf(offset));
            destination = destination[part.Length..];
            offset += part.Length;
        }
    }

    private int CompareIsland(long offset, ReadOnlySpan<byte> data)
    {
        Span<byte> expected = stackalloc byte[BlockBytes];
        int compared = 0;
        while (compared < data.Length)
        {
            int length = (int)Math.Min(data.Length - compared, BlockBytes - (offset % BlockBytes));
            ReadOnlySpan<byte> part = data.Slice(compared, length);
            int difference;
            if (_isRandomContent)
            {
                ReadRandom(offset, expected[..length]);
                int same = part.CommonPrefixLength(expected);
                difference = same == length ? -1 : same;
            }
            else
            {
                difference = part.IndexOfAnyExcept(ByteOf(offset));
            }

            if (difference >= 0)
            {
                return compared + difference;
            }

            compared += length;
            offset += length;
        }

        return -1;
    }

    /// <summary>The byte that fills a block; never zero.</summary>
    private byte ByteOf(long offset) => (byte)((Mix(~_seed + ((ulong)(offset / BlockBytes) * Golden)) % 255) + 1);

    private void ReadRandom(long offset, Span<byte> destination)
    {
        ulong counter = ~_seed + ((ulong)(offset / WordBytes) * Golden);
        int head = (int)(offset % WordBytes);
        if (head > 0)
        {
            int length = Math.Min(WordBytes - head, destination.Length);
            PartOfWord(counter, head, destination[..length]);
            destination = destination[length..];
            counter += Golden;
        }

        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(destination);
        foreach (ref ulong word in words)
        {
            ulong random = Mix(counter);
            word = BitConverter.IsLittleEndian ? random : BinaryPrimitives.ReverseEndianness(random);
            counter += Golden;
        }

        PartOfWord(counter, 0, destination[(words.Length * WordBytes)..]);
    }

    private static void PartOfWord(ulong counter, int start, Span<byte> destination)
    {
        Span<byte> word = stackalloc byte[WordBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(word, Mix(counter));
        word.Slice(start, destination.Length).CopyTo(destination);
    }
}

/// <summary>What makes one sparse random disk different from another.</summary>
internal sealed record SparseRandomOptions
{
    internal required long SizeBytes { get; init; }

    /// <summary>The same seed and the same other options give the same bytes.</summary>
    internal long Seed { get; init; } = 1;

    /// <summary>How much of the disk is data: more than 0, at most 100.</summary>
    internal decimal Percent { get; init; } = 10;

    /// <summary>Average length of an island in bytes.</summary>
    internal long RunLengthBytes { get; init; } = 16 << 20;

    /// <summary>Every byte is random; otherwise all bytes of a block of 4096 are the same.</summary>
    internal bool IsRandomContent { get; init; }
}
