using System.Buffers.Binary;
using Linux;
using NbdFuse;

namespace UnitTests.NbdFuseTests;

/// <summary>Partition tables, whole and broken, as bytes of a disk in memory.</summary>
public sealed class PartitionTableTests
{
    private const int MiB = 1 << 20;

    private readonly byte[] _disk = new byte[64 * MiB];

    [Fact]
    public async Task A_disk_without_a_table_has_no_partitions_and_no_problem()
    {
        AssertNone(await Read());

        // The boot sector of a file system: the signature, and text where the boot indicators are.
        Signature(0);
        "Disk error\r\nPress any key"u8.CopyTo(_disk.AsSpan(440));
        AssertNone(await Read());

        AssertNone(await Read(size: 0));
        AssertNone(await Read(size: 511));
    }

    [Fact]
    public async Task Primary_partitions_have_the_number_of_their_entry()
    {
        Signature(0);
        Entry(0, 1, 0x83, 2048, 4096);
        Entry(0, 3, 0x07, 8192, 1, boot: 0x80);

        PartitionTable table = await Read();

        Assert.Null(table.Problem);
        Assert.Equal([new(2, 2048 * 512, 4096 * 512), new(4, 8192 * 512, 512)], table.Partitions);
    }

    [Fact]
    public async Task Logical_partitions_are_found_along_the_chain_and_the_chain_is_watched()
    {
        Signature(0);
        Entry(0, 0, 0x83, 64, 64);
        Entry(0, 1, 0x0f, 1000, 5000);
        Signature(1000);
        Entry(1000, 0, 0x83, 10, 100);
        Entry(1000, 1, 0x05, 500, 1000);
        Signature(1500);
        Entry(1500, 0, 0x82, 20, 200);

        PartitionTable table = await Read();

        Assert.Null(table.Problem);
        Assert.Equal(
            [new(1, 64 * 512, 64 * 512), new(5, 1010 * 512, 100 * 512), new(6, 1520 * 512, 200 * 512)],
            table.Partitions);
        Assert.Contains((1500ul * 512, 1501ul * 512), table.Sectors);
    }

    [Fact]
    public async Task A_chain_that_goes_in_circles_ends()
    {
        Signature(0);
        Entry(0, 0, 0x05, 1000, 5000);
        Signature(1000);
        Entry(1000, 0, 0x83, 10, 100);
        Entry(1000, 1, 0x05, 0, 1000);

        AssertBroken(await Read(), "more than 128 logical partitions");
    }

    [Theory]
    [InlineData(0u, 10u)]
    [InlineData(1u, uint.MaxValue)]
    [InlineData(uint.MaxValue, uint.MaxValue)]
    [InlineData(131072u, 1u)]
    [InlineData(131071u, 2u)]
    public async Task A_partition_outside_of_the_disk_breaks_the_table(uint start, uint length)
    {
        Signature(0);
        Entry(0, 0, 0x83, 64, 64);
        Entry(0, 1, 0x83, start, length);

        AssertBroken(await Read(), "partition 2");
    }

    [Fact]
    public async Task Logical_partitions_must_lie_in_their_extended_partition()
    {
        Signature(0);
        Entry(0, 0, 0x05, 1000, 500);
        Signature(1000);
        Entry(1000, 0, 0x83, 10, 491);

        AssertBroken(await Read(), "partition 5");
        _disk.AsSpan(1000 * 512 + 510, 2).Clear();
        AssertBroken(await Read(), "no extended boot record");
    }

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    public async Task A_guid_table_is_read_with_either_size_of_sectors(int sector)
    {
        Guid(sector, (0, 64, 127), (4, 200, 200));

        PartitionTable table = await Read();

        Assert.Null(table.Problem);
        ulong bytes = (ulong)sector;
        Assert.Equal([new(1, 64 * bytes, 64 * bytes), new(5, 200 * bytes, bytes)], table.Partitions);
    }

    [Fact]
    public async Task The_second_guid_table_helps_when_the_first_is_broken()
    {
        Guid(512, (0, 64, 127));
        _disk[512 + 60] ^= 1;

        PartitionTable table = await Read();

        Assert.Null(table.Problem);
        Assert.Equal([new(1, 64 * 512, 64 * 512)], table.Partitions);

        // The entries of the last one.
        _disk[_disk.Length - (33 * 512) + 40] ^= 1;
        AssertBroken(await Read(), "checksum");
    }

    [Theory]
    [InlineData(0ul, 70ul)]
    [InlineData(70ul, 69ul)]
    [InlineData(70ul, 131072ul)]
    [InlineData(70ul, ulong.MaxValue)]
    public async Task A_guid_partition_outside_of_the_usable_sectors_breaks_the_table(ulong first, ulong last)
    {
        Guid(512, (0, 64, 66), (1, first, last));

        AssertBroken(await Read(), "partition 2");
    }

    [Theory]
    [InlineData(80, 0u)]
    [InlineData(80, 100_000_000u)]
    [InlineData(84, 127u)]
    [InlineData(84, 0u)]
    [InlineData(84, uint.MaxValue)]
    [InlineData(12, 91u)]
    [InlineData(12, 513u)]
    [InlineData(76, 0x7fffffffu)]
    public async Task A_header_with_a_right_checksum_and_wrong_numbers_is_refused(int offset, uint value)
    {
        Guid(512, (0, 64, 66));
        foreach (int at in new[] { 512, _disk.Length - 512 })
        {
            BinaryPrimitives.WriteUInt32LittleEndian(_disk.AsSpan(at + offset), value);
            SealHeader(at);
        }

        Assert.NotNull((await Read()).Problem);
    }

    [Fact]
    public async Task An_error_of_the_disk_is_a_problem_of_the_table()
    {
        PartitionTable table = await PartitionTable.Read(
            new TableSectors(MiB, (_, _) => Task.FromResult(Errno.EIO)));

        AssertBroken(table, "Input/output error");
    }

    [Fact]
    public async Task Random_bytes_in_the_table_never_do_harm()
    {
        Random random = new(1);
        for (int round = 0; round < 2000; round++)
        {
            Array.Clear(_disk, 0, 64 * 512);
            Guid(512, (0, 64, 127), (3, 200, 300));
            for (int i = random.Next(1, 4); i > 0; i--)
            {
                _disk[random.Next(440, 34 * 512)] = (byte)random.Next(256);
            }

            foreach (Partition partition in (await Read(size: 2 * MiB)).Partitions)
            {
                Assert.True(partition.Start + partition.Length <= 2 * MiB);
            }
        }
    }

    private static void AssertNone(PartitionTable table)
    {
        Assert.Null(table.Problem);
        Assert.Empty(table.Partitions);
        Assert.NotEmpty(table.Sectors);
    }

    private static void AssertBroken(PartitionTable table, string problem)
    {
        Assert.Contains(problem, table.Problem, StringComparison.Ordinal);
        Assert.Empty(table.Partitions);
    }

    private Task<PartitionTable> Read(int? size = null) => PartitionTable.Read(new TableSectors(
        (ulong)(size ?? _disk.Length),
        (offset, destination) =>
        {
            _disk.AsMemory((int)offset, destination.Length).CopyTo(destination);
            return Task.FromResult(Errno.None);
        }));

    private void Signature(int sector) => (_disk[(sector * 512) + 510], _disk[(sector * 512) + 511]) = (0x55, 0xaa);

    private void Entry(int sector, int index, byte type, uint start, uint length, byte boot = 0)
    {
        Span<byte> entry = _disk.AsSpan((sector * 512) + 446 + (index * 16), 16);
        (entry[0], entry[4]) = (boot, type);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[8..], start);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[12..], length);
    }

    private void Guid(int sector, params (int Index, ulong First, ulong Last)[] partitions)
    {
        const int EntryCount = 128;
        Signature(0);
        Entry(0, 0, 0xee, 1, uint.MaxValue);
        int last = (_disk.Length / sector) - 1;
        int entriesSectors = EntryCount * 128 / sector;
        byte[] entries = new byte[EntryCount * 128];
        foreach ((int index, ulong first, ulong end) in partitions)
        {
            Span<byte> entry = entries.AsSpan(index * 128, 128);
            entry[..16].Fill(0x11);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[32..], first);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[40..], end);
        }

        foreach ((int at, int entriesAt) in new[] { (1, 2), (last, last - entriesSectors) })
        {
            entries.CopyTo(_disk, entriesAt * sector);
            Span<byte> header = _disk.AsSpan(at * sector, 92);
            "EFI PART"u8.CopyTo(header);
            BinaryPrimitives.WriteUInt32LittleEndian(header[12..], 92);
            BinaryPrimitives.WriteUInt64LittleEndian(header[24..], (ulong)at);
            BinaryPrimitives.WriteUInt64LittleEndian(header[40..], (ulong)(2 + entriesSectors));
            BinaryPrimitives.WriteUInt64LittleEndian(header[48..], (ulong)(last - entriesSectors - 1));
            BinaryPrimitives.WriteUInt64LittleEndian(header[72..], (ulong)entriesAt);
            BinaryPrimitives.WriteUInt32LittleEndian(header[80..], EntryCount);
            BinaryPrimitives.WriteUInt32LittleEndian(header[84..], 128);
            BinaryPrimitives.WriteUInt32LittleEndian(header[88..], Checksum(entries));
            SealHeader(at * sector);
        }
    }

    private void SealHeader(int at)
    {
        _disk.AsSpan(at + 16, 4).Clear();
        int length = (int)Math.Min(512, BinaryPrimitives.ReadUInt32LittleEndian(_disk.AsSpan(at + 12)));
        BinaryPrimitives.WriteUInt32LittleEndian(_disk.AsSpan(at + 16), Checksum(_disk.AsSpan(at, length)));
    }

    // By the table of the remainders of all bytes, unlike the code under test.
    private static uint Checksum(ReadOnlySpan<byte> bytes)
    {
        uint[] remainders = [.. Enumerable.Range(0, 256).Select(value =>
        {
            uint remainder = (uint)value;
            for (int bit = 0; bit < 8; bit++)
            {
                remainder = (remainder & 1) != 0 ? 0xedb88320 ^ (remainder >> 1) : remainder >> 1;
            }

            return remainder;
        })];
        uint checksum = uint.MaxValue;
        foreach (byte value in bytes)
        {
            checksum = remainders[(byte)(checksum ^ value)] ^ (checksum >> 8);
        }

        return ~checksum;
    }
}
