using Linux;
using NbdServe.Backends;

namespace UnitTests.NbdServeTests;

public sealed class SparseRandomTests
{
    private const long Size = 100 << 20;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_same_seed_gives_the_same_bytes_however_they_are_read(bool isRandom)
    {
        SparseRandomDisk disk = Disk(isRandom: isRandom);
        byte[] whole = Read(disk, 0, (int)Size);
        byte[] pieces = new byte[Size];
        Random random = new(3);
        for (int offset = 0; offset < Size;)
        {
            int length = (int)Math.Min(random.Next(1, 200_000), Size - offset);
            Read(Disk(isRandom: isRandom), offset, length).CopyTo(pieces, offset);
            offset += length;
        }

        Assert.True(whole.AsSpan().SequenceEqual(pieces));
    }

    [Fact]
    public void Another_seed_gives_another_disk() =>
        Assert.False(Read(Disk(), 0, (int)Size).AsSpan().SequenceEqual(Read(Disk(seed: 2), 0, (int)Size)));

    [Fact]
    public void The_bytes_never_change_from_one_version_to_the_next()
    {
        byte[] data = Read(Disk(isRandom: true), 0, (int)Size);

        Assert.Equal(
            "14f6a2bd847b82eba3295b2ad490f75c415f0aa42290d900f74b77c01a9342ac",
            Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(data)));
    }

    [Theory]
    [InlineData("1")]
    [InlineData("10")]
    [InlineData("50")]
    [InlineData("90")]
    [InlineData("100")]
    public void About_the_wanted_part_is_data(string percent)
    {
        decimal wanted = decimal.Parse(percent, System.Globalization.CultureInfo.InvariantCulture);
        SparseRandomDisk disk = new(new() { SizeBytes = 64L << 30, Percent = wanted, RunLengthBytes = 1 << 20 });
        long data = 0;
        for (long offset = 0; offset < disk.SizeBytes;)
        {
            (bool isData, long end) = disk.RunAt(offset);
            Assert.True(end > offset);
            data += isData ? end - offset : 0;
            offset = end;
        }

        decimal actual = data * 100m / disk.SizeBytes;
        Assert.InRange(actual, wanted * 0.9m, wanted * 1.1m);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Extents_say_where_data_and_holes_are(bool isRandom)
    {
        SparseRandomDisk disk = Disk(isRandom: isRandom);
        int runs = 0;
        for (long offset = 0; offset < Size; runs++)
        {
            (bool isData, long end) = disk.RunAt(offset);
            byte[] data = Read(disk, offset, (int)(end - offset));
            if (isData)
            {
                for (int block = 0; block < data.Length; block += SparseRandomDisk.BlockBytes)
                {
                    Assert.True(data.AsSpan(block, Math.Min(4096, data.Length - block)).ContainsAnyExcept((byte)0));
                }
            }
            else
            {
                Assert.False(data.AsSpan().ContainsAnyExcept((byte)0));
            }

            offset = end;
        }

        Assert.True(runs > 10);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(5000)]
    [InlineData(1L << 50)]
    [InlineData(long.MaxValue)]
    public void Any_size_will_do(long size)
    {
        SparseRandomDisk disk = new(new() { SizeBytes = size, RunLengthBytes = long.MaxValue, Percent = 50 });
        if (size > 0)
        {
            int length = (int)Math.Min(size, 100_000);
            Assert.Equal(-1, disk.FindDifference(size - length, Read(disk, size - length, length)));
            Assert.Equal(size, disk.RunAt(size - 1).End);
        }

        if (size > 4096)
        {
            Assert.True(disk.RunAt(0).End < size || disk.RunAt(0).IsData);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Its_own_content_is_accepted_and_one_wrong_byte_is_not(bool isRandom)
    {
        SparseRandomBackend backend = new(Disk(isRandom: isRandom));
        byte[] data = backend.Read(0, 10 << 20);
        backend.Write(0, data);
        foreach (int wrong in (int[])[0, 4095, 5_000_001, data.Length - 1])
        {
            data[wrong] ^= 1;
            LinuxException refused = Assert.Throws<LinuxException>(() => backend.Write(0, data));
            Assert.Equal(Errno.EIO, refused.Errno);
            Assert.Contains($"offset {wrong}", refused.Message);
            data[wrong] ^= 1;
        }
    }

    [Fact]
    public void Only_holes_may_be_zeroed_or_trimmed()
    {
        SparseRandomDisk disk = Disk();
        SparseRandomBackend backend = new(disk);
        long island = disk.RunAt(0) is (false, long end) ? end : 0;
        long hole = disk.RunAt(island).End;
        long holeLength = disk.RunAt(hole).End - hole;

        backend.Zero(hole, holeLength);
        backend.Trim(hole, holeLength);

        Assert.Throws<LinuxException>(() => backend.Zero(hole - 1, 2));
        Assert.Throws<LinuxException>(() => backend.Trim(hole, holeLength + 1));
    }

    [Fact]
    public void Extents_merge_and_cover_the_range()
    {
        SparseRandomBackend backend = new(Disk());
        long sum = backend.Extents(100, Size - 200).Split(' ').Sum(extent => long.Parse(extent[..^2]));
        Assert.Equal(Size - 200, sum);
    }

    private static SparseRandomDisk Disk(long seed = 1, bool isRandom = false) => new(new()
    {
        SizeBytes = Size,
        Seed = seed,
        RunLengthBytes = 256 * 1024,
        IsRandomContent = isRandom,
    });

    private static byte[] Read(SparseRandomDisk disk, long offset, int length)
    {
        byte[] data = new byte[length];
        Array.Fill(data, (byte)0xcc);
        disk.Read(offset, data);
        return data;
    }
}
