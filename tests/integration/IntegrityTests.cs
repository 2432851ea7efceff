using Tmds.Linux;

namespace IntegrationTests;

/// <summary>No wrong byte is ever read or written.</summary>
public abstract class IntegrityTests : IntegrationTest
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void All_of_a_1_GiB_disk_reads_as_it_is(bool direct)
    {
        const long SizeBytes = 1L << 30;
        const int BlockBytes = 4 << 20;
        NbdServer server = Nbdkit("pattern", $"{SizeBytes}");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, direct ? LibC.O_DIRECT : 0);

        for (long offset = 0; offset < SizeBytes; offset += BlockBytes)
        {
            if (!file.Read(offset, BlockBytes).AsSpan().SequenceEqual(Data.Pattern(offset, BlockBytes)))
            {
                Assert.Fail($"wrong data in the 4 MiB at {offset}");
            }
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData(513)]
    [InlineData(1048577)]
    public void A_disk_of_an_odd_size_ends_where_it_ends(int sizeBytes)
    {
        NbdServer server = Nbdkit("pattern", $"{sizeBytes}");
        NbdFuseMount mount = Mount(server.Uri);

        Assert.Equal(sizeBytes, new FileInfo(mount.File).Length);
        Assert.Equal(Data.Pattern(0, sizeBytes), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void An_empty_disk_is_an_empty_file()
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "0").Uri);

        Assert.Empty(File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void The_last_bytes_of_a_huge_disk_are_read()
    {
        const long SizeBytes = long.MaxValue - 4095;
        NbdServer server = Nbdkit("pattern", $"{SizeBytes}");
        NbdFuseMount mount = Mount(server.Uri);

        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);

        Assert.Equal(Data.Pattern(SizeBytes - 4096, 4096), file.Read(SizeBytes - 4096, 4096));
    }

    [Fact]
    public void Unaligned_reads_give_just_what_was_asked_for()
    {
        NbdServer server = Nbdkit("pattern", "8M");
        NbdFuseMount mount = Mount(server.Uri);
        byte[] all = Data.Pattern(0, 8 << 20);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);
        Random random = new(3);

        for (int i = 0; i < 500; i++)
        {
            int offset = random.Next(all.Length);
            int length = random.Next(1, 400_000);

            Assert.Equal(all[offset..Math.Min(offset + length, all.Length)], file.Read(offset, length));
        }
    }

    [Theory]
    [InlineData("--direct=1", "--bsrange=4k-256k", "--ioengine=libaio")]
    [InlineData("--direct=0", "--bsrange=512-128k", "--ioengine=psync")]
    public void Parallel_random_writes_are_read_back_right(params string[] how)
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(server.Uri);

        Tool.Run(
            "fio",
            [
                "--name=verify", $"--filename={mount.File}", "--rw=randwrite", "--iodepth=16", "--numjobs=4", "--size=16M",
                "--offset_increment=16M", "--verify=crc32c", "--verify_fatal=1", "--fallocate=none", "--randseed=7",
                "--allow_file_create=0", "--verify_state_save=0", $"--output={Folder.FileAt("fio.log")}", .. how,
            ]);
    }

    [Fact]
    public void A_file_written_through_direct_IO_is_on_the_server()
    {
        NbdServer server = Nbdkit("memory", "16M");
        NbdFuseMount mount = Mount(server.Uri);
        byte[] data = Data.Random(16 << 20);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR | LibC.O_DIRECT);

        Assert.Equal(data.Length, file.Write(0, data));

        Tool.Run("nbdcopy", server.Uri, Folder.FileAt("copy"));
        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("copy")));
        Assert.Equal(data, file.Read(0, data.Length));
    }

    [Fact]
    public void A_shared_mapping_reads_and_writes_the_disk()
    {
        NbdServer server = Nbdkit("memory", "4M");
        NbdFuseMount mount = Mount(server.Uri);
        byte[] data = Data.Random(1 << 20);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        file.WriteMapped(1 << 20, data);

        Assert.Equal(data, file.ReadMapped(1 << 20, data.Length));
        Tool.Run("nbdcopy", server.Uri, Folder.FileAt("copy"));
        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("copy"))[(1 << 20)..(2 << 20)]);
    }

    [Fact]
    public void A_bad_sector_is_an_error_and_its_neighbours_are_not()
    {
        NbdServer server = Nbdkit(
            "eval",
            "get_size=echo 1M",
            "pread=if [ $4 -le 100000 ] && [ $(( $4 + $3 )) -gt 100000 ]; then echo EIO bad sector >&2; exit 1; fi; head -c $3 /dev/zero");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY | LibC.O_DIRECT);

        Assert.Equal(new byte[4096], file.Read(94208, 4096));
        Assert.Equal(new byte[4096], file.Read(102400, 4096));
        Linux.LinuxException e = Assert.Throws<Linux.LinuxException>(() => file.Read(98304, 4096));
        Assert.Equal(Linux.Errno.EIO, e.Errno);
    }
}

public sealed class IntegrityOverDeviceTests : IntegrityTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class IntegrityOverUringTests : IntegrityTests
{
    private protected override string Transport => Transports.Uring;
}
