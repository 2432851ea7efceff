using Tmds.Linux;

namespace IntegrationTests;

/// <summary>Holes and zeroed ranges read back as zeroes, and nothing around them changes, on every kind of server.</summary>
public abstract class ZeroTests : IntegrationTest
{
    // linux/falloc.h; Tmds.LibC lacks it.
    private const int ZeroRange = 0x10;
    private const int SizeBytes = 8 << 20;

    private static readonly int s_punchHole = LibC.FALLOC_FL_PUNCH_HOLE | LibC.FALLOC_FL_KEEP_SIZE;
    private static readonly int s_zeroRange = ZeroRange;
    private static readonly int s_zeroRangeKeepSize = ZeroRange | LibC.FALLOC_FL_KEEP_SIZE;

    /// <summary>Kinds of servers, and ranges: aligned, unaligned, within a page, longer than a request, the end.</summary>
    public static TheoryData<string, long, long> Cases()
    {
        TheoryData<string, long, long> cases = [];
        foreach (string server in new[] { "zeroes", "no zeroes", "no trim", "discard ignored", "reference" })
        {
            cases.Add(server, 65536, 65536);
            cases.Add(server, 4096, 4096);
            cases.Add(server, 1_000_001, 3_000_003);
            cases.Add(server, 513, 100);
            cases.Add(server, SizeBytes - 70_001, 70_001);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_punched_hole_reads_as_zeroes(string server, long offset, long length) =>
        CheckZeroes(server, s_punchHole, offset, length);

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_zeroed_range_reads_as_zeroes(string server, long offset, long length) =>
        CheckZeroes(server, s_zeroRange, offset, length);

    [Fact]
    public void Zeroing_with_keep_size_is_the_same() => CheckZeroes("zeroes", s_zeroRangeKeepSize, 65536, 65536);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Ranges_above_4_GiB_are_zeroed_whole(bool punch)
    {
        const long Start = 1 << 20;
        const long Length = (4L << 30) + (512 << 20) + 4096;
        NbdServer server = Nbdkit("memory", "8G");
        NbdFuseMount mount = Mount(server.Uri);
        byte[] data = Data.Filled(65536, 0xee);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        long[] places = [Start - 65536, Start, 2L << 30, (4L << 30) - 32768, 4L << 30, Start + Length - 65536, Start + Length];
        foreach (long place in places)
        {
            Assert.Equal(data.Length, file.Write(place, data));
        }

        Assert.Equal(0, file.Fallocate(punch ? s_punchHole : s_zeroRange, Start, Length));

        foreach (long place in places[1..^1])
        {
            Assert.Equal(new byte[data.Length], file.Read(place, data.Length));
        }

        Assert.Equal(data, file.Read(places[0], data.Length));
        Assert.Equal(data, file.Read(places[^1], data.Length));
    }

    [Fact]
    public void A_hole_is_punched_by_zeroing_that_may_unmap_and_never_by_a_trim_alone()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "1M", $"logfile={log.Path}");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        Assert.Equal(0, file.Fallocate(s_punchHole, 65536, 65536));

        Assert.Contains(log.Commands, command => command is { Name: "Zero", Offset: 65536, Length: 65536 });
    }

    [Fact]
    public void Plain_allocation_succeeds_within_the_file_and_changes_nothing()
    {
        NbdServer server = Nbdkit("pattern", "1M");
        NbdServer writable = Nbdkit("memory", "1M");
        Tool.Run("nbdcopy", server.Uri, writable.Uri);
        NbdFuseMount mount = Mount(writable.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        Assert.Equal(0, file.Fallocate(0, 4096, 65536));

        Assert.Equal(-LibC.ENOSPC, file.Fallocate(0, 4096, 1 << 20));
        Assert.Equal(Data.Pattern(0, 1 << 20), file.Read(0, 1 << 20));
    }

    private void CheckZeroes(string kind, int mode, long offset, long length)
    {
        byte[] expected = Data.Filled(SizeBytes, 0xd7);
        NbdFuseMount mount = Mount(Server(kind));
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR))
        {
            Assert.Equal(SizeBytes, file.Write(0, expected));

            Assert.Equal(0, file.Fallocate(mode, offset, length));

            expected.AsSpan((int)offset, (int)length).Clear();
            CheckSame(expected, file.Read(0, SizeBytes));
        }

        // Also without the page cache of the mount that did it.
        using RawFile direct = RawFile.Open(mount.File, LibC.O_RDONLY | LibC.O_DIRECT);
        CheckSame(expected, direct.Read(0, SizeBytes));
    }

    // Assert.Equal over megabytes takes seconds.
    private static void CheckSame(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual)
    {
        int same = expected.CommonPrefixLength(actual);
        Assert.True(
            same == expected.Length && actual.Length == expected.Length, $"wrong from byte {same} of {actual.Length} on");
    }

    private string Server(string kind)
    {
        string image = Folder.FileAt("image");
        switch (kind)
        {
            case "zeroes":
                return Nbdkit("memory", $"{SizeBytes}").Uri;
            case "no zeroes":
                return Nbdkit("--filter=nozero", "memory", $"{SizeBytes}").Uri;
            case "no trim":
                return Nbdkit("--filter=nozero", "memory", $"{SizeBytes}", "zeromode=notrim").Uri;
            case "discard ignored":
                File.WriteAllBytes(image, new byte[SizeBytes]);
                return QemuNbd("-f", "raw", "--discard=ignore", image).Uri;
            default:
                File.WriteAllBytes(image, new byte[SizeBytes]);
                return $"nbd://localhost:{ReferenceServer("disk", image, "trim = true").Port}/disk";
        }
    }
}

public sealed class ZeroOverDeviceTests : ZeroTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class ZeroOverUringTests : ZeroTests
{
    private protected override string Transport => Transports.Uring;
}
