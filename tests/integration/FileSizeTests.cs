using Tmds.Linux;

namespace IntegrationTests;

/// <summary>The file has the size of the export, and keeps it.</summary>
public abstract class FileSizeTests : IntegrationTest
{
    private const int SizeBytes = 100_000;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_write_over_the_end_writes_what_fits(int unaligned)
    {
        using RawFile file = OpenDisk();
        int start = SizeBytes - 1000 - unaligned;
        byte[] data = Data.Random(4096);

        Assert.Equal(1000 + unaligned, file.Write(start, data));

        Assert.Equal(data[..(1000 + unaligned)], file.Read(start, 4096));
    }

    public static TheoryData<string, int> CachesAndSizes()
    {
        TheoryData<string, int> cases = [];
        foreach (string cache in new[] { "none", "writethrough", "writeback" })
        {
            cases.Add(cache, (1 << 20) + 1);
            cases.Add(cache, (1 << 20) + 512);
            cases.Add(cache, (1 << 20) + 4096);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(CachesAndSizes))]
    public void A_direct_read_over_the_end_is_short(string cache, int size)
    {
        NbdServer server = Nbdkit("pattern", $"{size}");
        NbdFuseMount mount = Mount(new MountRequest { Options = [$"--cache={cache}"], Source = [server.Uri] });
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY | LibC.O_DIRECT);
        byte[] expected = Data.Pattern(0, size);

        Assert.Equal(expected, file.Read(0, 2 << 20));
        Assert.Equal(expected[^(size % 8192)..], file.Read(size - (size % 8192), 8192));
        Assert.Empty(file.Read(2 << 20, 4096));
    }

    /// <summary>
    /// What block devices give is a short write. To a file that it caches the kernel sends direct writes in parts, all at one
    /// time, and takes a short answer to one for an error: EIO.
    /// </summary>
    [Theory]
    [MemberData(nameof(CachesAndSizes))]
    public void A_direct_write_over_the_end_keeps_what_fits(string cache, int size)
    {
        NbdServer server = Nbdkit("memory", $"{size}");
        NbdFuseMount mount = Mount(new MountRequest { Options = [$"--cache={cache}"], Source = [server.Uri] });
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR | LibC.O_DIRECT);
        byte[] data = Data.Random(65536);
        int start = (size - 8192) & ~4095;

        Assert.Equal(cache == "none" ? size - start : -LibC.ENOSPC, file.Write(start, data));
        Assert.Equal(-LibC.ENOSPC, file.Write(2 << 20, data));

        Assert.Equal(0, file.Fsync());
        Assert.Equal(data[..(size - start)], file.Read(start, 65536));
        Assert.Equal(size, new FileInfo(mount.File).Length);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4096)]
    [InlineData(1L << 40)]
    public void A_write_at_or_behind_the_end_has_no_space(long behind)
    {
        using RawFile file = OpenDisk();

        Assert.Equal(-LibC.ENOSPC, file.Write(SizeBytes + behind, Data.Random(4096)));
    }

    [Fact]
    public void Appending_has_no_space()
    {
        using RawFile file = OpenDisk(LibC.O_RDWR | LibC.O_APPEND);

        Assert.Equal(-LibC.ENOSPC, file.Write(0, Data.Random(4096)));
    }

    [Fact]
    public void A_read_behind_the_end_is_empty()
    {
        using RawFile file = OpenDisk();

        Assert.Empty(file.Read(SizeBytes, 4096));
        Assert.Empty(file.Read(SizeBytes + (1L << 40), 4096));
    }

    [Fact]
    public void Truncating_to_the_same_size_changes_nothing()
    {
        using RawFile file = OpenDisk();
        byte[] data = Data.Random(4096);
        file.Write(0, data);

        Assert.Equal(0, file.Truncate(SizeBytes));

        Assert.Equal(data, file.Read(0, 4096));
    }

    [Theory]
    [InlineData(0, 22)]
    [InlineData(SizeBytes - 1, 22)]
    [InlineData(SizeBytes + 1, 27)]
    [InlineData(1L << 40, 27)]
    public void Truncating_to_another_size_fails(long size, int error)
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", $"{SizeBytes}").Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        Assert.Equal(-error, file.Truncate(size));

        Assert.Equal(SizeBytes, new FileInfo(mount.File).Length);
    }

    [Fact]
    public void Opening_with_truncation_changes_nothing_so_that_copying_onto_the_disk_works()
    {
        NbdServer server = Nbdkit("memory", $"{SizeBytes}");
        NbdFuseMount mount = Mount(server.Uri);
        byte[] image = Data.Random(SizeBytes);
        File.WriteAllBytes(Folder.FileAt("image"), image);

        Tool.Run("cp", Folder.FileAt("image"), mount.File);
        Assert.Equal(0, RawFile.OpenError(mount.File, LibC.O_RDWR | LibC.O_TRUNC));

        Assert.Equal(image, File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void Nothing_can_be_created_removed_or_renamed()
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "1M").Uri);

        Assert.True(RawFile.OpenError(mount.MountPath + "/other", LibC.O_RDWR | LibC.O_CREAT) < 0, "created");
        Assert.NotEqual(0, Tool.Try("rm", mount.File).ExitCode);
        Assert.NotEqual(0, Tool.Try("mv", mount.File, mount.MountPath + "/other").ExitCode);
        Assert.NotEqual(0, Tool.Try("mkdir", mount.MountPath + "/other").ExitCode);
        Assert.Equal(-LibC.ENOENT, RawFile.OpenError(mount.MountPath + "/other", LibC.O_RDONLY));
        Assert.Equal([mount.File], Directory.GetFileSystemEntries(mount.MountPath));
    }

    private RawFile OpenDisk(int? flags = null)
    {
        NbdServer server = Nbdkit("memory", $"{SizeBytes}");
        return RawFile.Open(Mount(server.Uri).File, flags ?? LibC.O_RDWR);
    }
}

public sealed class FileSizeOverDeviceTests : FileSizeTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class FileSizeOverUringTests : FileSizeTests
{
    private protected override string Transport => Transports.Uring;
}
