using System.Buffers.Binary;

namespace NbdFuse;

/// <summary>
/// The partition table of UEFI (specification 2.10, section 5.3): a header in the second sector and one in the last,
/// each with an array of entries, all with checksums. Sectors have 512 or 4096 bytes.
/// </summary>
internal static class GuidPartitionTable
{
    private const int HeaderBytes = 92;
    private const int MinimumEntryBytes = 128;
    private const int MaximumEntriesBytes = 1 << 20;

    private readonly record struct Header(
        ulong FirstUsable, ulong LastUsable, ulong EntriesSector, uint EntryCount, uint EntryBytes, uint EntriesChecksum);

    /// <summary>The partitions of the first table that is whole.</summary>
    /// <exception cref="PartitionTableException">Neither is.</exception>
    internal static async Task<List<Partition>> Read(TableSectors sectors)
    {
        PartitionTableException? first = null;
        foreach (uint sectorBytes in (uint[])[512, 4096])
        {
            ulong last = sectors.SizeBytes / sectorBytes * sectorBytes - sectorBytes;
            foreach (ulong at in (ulong[])[sectorBytes, last])
            {
                try
                {
                    return await ReadTable(sectors, at, sectorBytes).ConfigureAwait(false);
                }
                catch (PartitionTableException exception)
                {
                    first ??= exception;
                }
            }
        }

        throw first!;
    }

    private static async Task<List<Partition>> ReadTable(TableSectors sectors, ulong at, uint sectorBytes)
    {
        byte[] sector = await sectors.Read(at, (int)sectorBytes).ConfigureAwait(false);
        Header header = Decode(sector, at, sectorBytes);
        if (header.EntriesSector > sectors.SizeBytes / sectorBytes)
        {
            throw new PartitionTableException($"the entries of the header at {at} are beyond the end of the disk");
        }

        int entriesBytes = (int)(header.EntryCount * header.EntryBytes);
        byte[] entries = await sectors.Read(header.EntriesSector * sectorBytes, entriesBytes).ConfigureAwait(false);
        return Checksum(entries) == header.EntriesChecksum
            ? Partitions(header, entries, sectorBytes, sectors.SizeBytes)
            : throw new PartitionTableException($"the checksum of the entries of the header at {at} is wrong");
    }

    private static Header Decode(byte[] sector, ulong at, uint sectorBytes)
    {
        uint headerBytes = U32(sector, 12);
        if (!sector.AsSpan(0, 8).SequenceEqual("EFI PART"u8) || headerBytes < HeaderBytes || headerBytes > sectorBytes)
        {
            throw new PartitionTableException($"there is no header at {at}");
        }

        uint checksum = U32(sector, 16);
        sector.AsSpan(16, sizeof(uint)).Clear();
        if (Checksum(sector.AsSpan(0, (int)headerBytes)) != checksum || U64(sector, 24) * sectorBytes != at)
        {
            throw new PartitionTableException($"the header at {at} has a wrong checksum or belongs elsewhere");
        }

        Header header = new(U64(sector, 40), U64(sector, 48), U64(sector, 72), U32(sector, 80), U32(sector, 84),
            U32(sector, 88));
        return header.EntryBytes >= MinimumEntryBytes && header.EntryBytes % MinimumEntryBytes == 0
            && (ulong)header.EntryCount * header.EntryBytes is > 0 and <= MaximumEntriesBytes
            ? header
            : throw new PartitionTableException(
                $"the header at {at} has {header.EntryCount} entries of {header.EntryBytes} bytes");
    }

    private static List<Partition> Partitions(Header header, byte[] entries, uint sectorBytes, ulong sizeBytes)
    {
        List<Partition> partitions = [];
        for (int i = 0; i < header.EntryCount; i++)
        {
            ReadOnlySpan<byte> entry = entries.AsSpan((int)(i * header.EntryBytes), MinimumEntryBytes);
            if (!entry[..16].ContainsAnyExcept((byte)0))
            {
                continue;
            }

            ulong first = BinaryPrimitives.ReadUInt64LittleEndian(entry[32..]);
            ulong last = BinaryPrimitives.ReadUInt64LittleEndian(entry[40..]);
            if (first < header.FirstUsable || first > last || last > header.LastUsable
                || last >= sizeBytes / sectorBytes)
            {
                throw new PartitionTableException($"partition {i + 1} goes from sector {first} to {last}");
            }

            partitions.Add(new Partition(i + 1, first * sectorBytes, (last - first + 1) * sectorBytes));
        }

        return partitions;
    }

    /// <summary>CRC-32 as in ISO 3309, which .NET does not have.</summary>
    private static uint Checksum(ReadOnlySpan<byte> bytes)
    {
        const uint ReversedPolynomial = 0xedb88320;
        uint checksum = uint.MaxValue;
        foreach (byte value in bytes)
        {
            checksum ^= value;
            for (int bit = 0; bit < 8; bit++)
            {
                checksum = (checksum >> 1) ^ ((checksum & 1) * ReversedPolynomial);
            }
        }

        return ~checksum;
    }

    private static uint U32(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(offset));

    private static ulong U64(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(offset));
}
