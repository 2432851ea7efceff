using Linux;

namespace NbdFuse;

/// <summary>
/// Reads the sectors of a partition table, and remembers where they lie: a write to one of them may change the table.
/// </summary>
/// <param name="sizeBytes">Size of the disk.</param>
/// <param name="read">Reads a range of the disk, which it contains as a whole.</param>
internal sealed class TableSectors(ulong sizeBytes, Func<ulong, Memory<byte>, Task<Errno>> read)
{
    private readonly List<(ulong Start, ulong End)> _ranges = [];

    /// <summary>Bytes of the disk.</summary>
    internal ulong SizeBytes => sizeBytes;

    /// <summary>The ranges that were asked for, as first byte and first byte after it.</summary>
    internal IReadOnlyList<(ulong Start, ulong End)> Ranges => _ranges;

    /// <summary>Reads a part of the table.</summary>
    /// <exception cref="PartitionTableException">It lies beyond the end of the disk.</exception>
    /// <exception cref="LinuxException">The disk cannot be read.</exception>
    internal async Task<byte[]> Read(ulong offset, int length)
    {
        if (offset > sizeBytes || (ulong)length > sizeBytes - offset)
        {
            throw new PartitionTableException($"a part of it would be at {offset}, beyond the end of the disk");
        }

        _ranges.Add((offset, offset + (ulong)length));
        byte[] bytes = new byte[length];
        Errno error = await read(offset, bytes).ConfigureAwait(false);
        return error == Errno.None
            ? bytes
            : throw new LinuxException($"read {length} bytes of the partition table at {offset}", error);
    }

    /// <summary>Remembers a range without reading it.</summary>
    internal void Watch(ulong offset, ulong length) => _ranges.Add((offset, offset + length));
}
