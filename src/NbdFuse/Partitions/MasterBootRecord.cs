using System.Buffers.Binary;

namespace NbdFuse;

/// <summary>
/// The partition table of PCs: four entries in the first sector; one of them may be an extended partition, which
/// holds a chain of sectors with one logical partition each. Addresses are in sectors of 512 bytes.
/// </summary>
internal static class MasterBootRecord
{
    internal const int SectorBytes = 512;

    // More logical partitions than anybody has; a chain that is longer goes in circles.
    private const int MaximumLogicalPartitions = 128;

    private const int FirstLogicalNumber = 5;
    private const int EntriesOffset = 446;
    private const int EntryBytes = 16;
    private const byte Protective = 0xee;

    private readonly record struct Entry(byte BootIndicator, byte Type, ulong Start, ulong Length)
    {
        internal bool IsUsed => Type != 0 && Length > 0;

        internal bool IsExtended => Type is 0x05 or 0x0f or 0x85;
    }

    /// <summary>
    /// Whether the first sector is a partition table at all. The boot sectors of file systems bear the same signature;
    /// they have code or text where the boot indicators would be.
    /// </summary>
    internal static bool IsTable(ReadOnlySpan<byte> sector) =>
        HasSignature(sector) && Array.TrueForAll(Entries(sector), entry => entry.BootIndicator is 0 or 0x80);

    /// <summary>Whether it stands there only to keep others away from a GUID partition table.</summary>
    internal static bool IsProtective(ReadOnlySpan<byte> sector) =>
        Array.Exists(Entries(sector), entry => entry.Type == Protective);

    /// <summary>The partitions of the table in the first sector.</summary>
    /// <exception cref="PartitionTableException">It is broken.</exception>
    internal static async Task<List<Partition>> Read(byte[] first, TableSectors sectors)
    {
        List<Partition> partitions = [];
        Entry[] entries = Entries(first);
        for (int i = 0; i < entries.Length; i++)
        {
            if (!entries[i].IsUsed)
            {
                continue;
            }

            Partition partition = Checked(i + 1, entries[i].Start, entries[i].Length, 0, sectors.SizeBytes);
            if (entries[i].IsExtended)
            {
                await ReadLogical(partition, sectors, partitions).ConfigureAwait(false);
            }
            else
            {
                partitions.Add(partition);
            }
        }

        return partitions;
    }

    private static async Task ReadLogical(Partition extended, TableSectors sectors, List<Partition> partitions)
    {
        ulong end = extended.Start + extended.Length;
        ulong at = extended.Start;
        for (int number = FirstLogicalNumber; number < FirstLogicalNumber + MaximumLogicalPartitions; number++)
        {
            byte[] sector = await sectors.Read(at, SectorBytes).ConfigureAwait(false);
            if (!HasSignature(sector))
            {
                throw new PartitionTableException($"there is no extended boot record at {at}");
            }

            // The first entry counts from this record, the second from the extended partition.
            Entry[] entries = Entries(sector);
            if (entries[0].IsUsed)
            {
                partitions.Add(Checked(number, entries[0].Start, entries[0].Length, at, end));
            }

            if (!entries[1].IsUsed)
            {
                return;
            }

            at = Checked(number, entries[1].Start, entries[1].Length, extended.Start, end).Start;
        }

        throw new PartitionTableException($"more than {MaximumLogicalPartitions} logical partitions");
    }

    private static Partition Checked(int number, ulong sector, ulong sectors, ulong origin, ulong end)
    {
        ulong start = origin + (sector * SectorBytes);
        ulong length = sectors * SectorBytes;
        return start > 0 && start < end && length <= end - start
            ? new Partition(number, start, length)
            : throw new PartitionTableException(
                $"partition {number} of {length} bytes at {start} does not fit before byte {end}");
    }

    private static bool HasSignature(ReadOnlySpan<byte> sector) => sector[510] == 0x55 && sector[511] == 0xaa;

    private static Entry[] Entries(ReadOnlySpan<byte> sector)
    {
        Entry[] entries = new Entry[4];
        for (int i = 0; i < entries.Length; i++)
        {
            ReadOnlySpan<byte> entry = sector.Slice(EntriesOffset + (i * EntryBytes), EntryBytes);
            entries[i] = new Entry(
                entry[0],
                entry[4],
                BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]),
                BinaryPrimitives.ReadUInt32LittleEndian(entry[12..]));
        }

        return entries;
    }
}
