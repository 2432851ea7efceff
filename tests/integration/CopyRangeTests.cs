using Tmds.Linux;

namespace IntegrationTests;

/// <summary>copy_file_range(2) within a mount: nbdfuse copies, and zeroes where the server says that there is a hole.</summary>
public abstract class CopyRangeTests : IntegrationTest
{
    private const int SizeBytes = 16 << 20;

    public static TheoryData<string> Caches => ["none", "writethrough", "writeback"];

    private string LogPath => Folder.FileAt("nbdkit.log");

    [Theory]
    [MemberData(nameof(Caches))]
    public void Data_is_copied_whatever_the_kernel_has_cached(string cache)
    {
        (NbdServer server, NbdkitLog log) = Memory();
        NbdFuseMount mount = Mount(new MountRequest { Options = [$"--cache={cache}"], Source = [server.Uri] });
        byte[] expected = Data.Random(SizeBytes);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        Assert.Equal(SizeBytes, file.Write(0, expected));
        _ = file.Read(9 << 20, 5 << 20);
        byte[] news = Data.Random(70_000, 2);
        Assert.Equal(news.Length, file.Write(1_000_000, news));
        news.CopyTo(expected, 1_000_000);

        CopyAll(file, 12_345, 9_999_999, 4_000_001);

        expected.AsSpan(12_345, 4_000_001).CopyTo(expected.AsSpan(9_999_999));
        CheckSame(expected, file.Read(0, SizeBytes));
        Assert.Contains(log.Commands, command => command is { Name: "Read", Length: 1 << 20 });
        Assert.Equal(0, file.Fsync());
        CheckServer(server, expected);
    }

    [Fact]
    public void What_is_stored_through_a_mapping_is_copied_too()
    {
        (NbdServer server, _) = Memory();
        NbdFuseMount mount = Mount(server.Uri);

        Tool.Run(
            "python3",
            "-c",
            """
            import mmap, os, sys
            fd = os.open(sys.argv[1], os.O_RDWR)
            memory = mmap.mmap(fd, 1 << 20)
            memory[5000:9000] = b'\x5a' * 4000
            assert os.copy_file_range(fd, fd, 8000, 4000, 600000) == 8000
            assert memory[601000:605000] == b'\x5a' * 4000
            """,
            mount.File);
    }

    [Fact]
    public void A_hole_becomes_a_zeroed_range_and_is_neither_read_nor_written()
    {
        (NbdServer server, NbdkitLog log) = Memory();
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        byte[] data = Data.Random(8 << 20);
        Assert.Equal(data.Length, file.Write(8 << 20, data));
        int before = log.Commands.Count;

        CopyAll(file, 0, 8 << 20, 4 << 20);

        LoggedCommand[] commands = [.. log.Commands.Skip(before).Where(command => command.Name != "Extents")];
        Assert.Equal([("Zero", 8L << 20, 4L << 20)], commands.Select(command => (command.Name, command.Offset, command.Length)));
        data.AsSpan(0, 4 << 20).Clear();
        CheckSame(data, file.Read(8 << 20, 8 << 20));
    }

    [Fact]
    public void Holes_and_data_in_turns_are_copied_as_what_they_are()
    {
        (NbdServer server, _) = Memory();
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        byte[] expected = new byte[SizeBytes];
        Data.Random(SizeBytes / 2, 3).CopyTo(expected, SizeBytes / 2);
        for (int place = 0; place < SizeBytes / 2; place += 512 << 10)
        {
            Data.Random(1000 + (place >> 4), place + 1).CopyTo(expected, place + 777);
            Assert.True(file.Write(place + 777, expected.AsSpan(place + 777, 1000 + (place >> 4))) > 0);
        }

        Assert.Equal(SizeBytes / 2, file.Write(SizeBytes / 2, expected.AsSpan(SizeBytes / 2)));

        CopyAll(file, 100, (SizeBytes / 2) + 5000, (SizeBytes / 2) - 6000);

        expected.AsSpan(100, (SizeBytes / 2) - 6000).CopyTo(expected.AsSpan((SizeBytes / 2) + 5000));
        CheckSame(expected, file.Read(0, SizeBytes));
        CheckServer(server, expected);
    }

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    [InlineData(65536)]
    public void Parts_of_blocks_are_copied_on_servers_with_a_minimum_block(int block)
    {
        NbdServer server = Nbdkit(
            "--filter=blocksize-policy", "memory", $"{SizeBytes}", $"blocksize-minimum={block}",
            "blocksize-preferred=65536", "blocksize-maximum=1M", "blocksize-error-policy=error");
        NbdFuseMount mount = Mount(server.Uri);
        byte[] expected = Data.Random(SizeBytes);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        Assert.Equal(SizeBytes, file.Write(0, expected));

        foreach ((int from, int to, int length) in new[] { (1, 8_000_001, 3_000_003), (70_001, 5, 3), (131_072, 11_000_000, 65_537) })
        {
            CopyAll(file, from, to, length);
            expected.AsSpan(from, length).CopyTo(expected.AsSpan(to));
        }

        CheckSame(expected, file.Read(0, SizeBytes));
    }

    /// <summary>BLOCK_STATUS begins with the block that the source begins in; its first run may be over before the source.</summary>
    [Fact]
    public void The_data_before_the_source_in_its_block_is_left_out()
    {
        string image = Folder.FileAt("image");
        byte[] expected = new byte[1 << 20];
        Data.Random(0x4a000).CopyTo(expected, 0);
        Data.Random(1 << 19, 2).CopyTo(expected, 1 << 19);
        using (FileStream sparse = System.IO.File.Create(image))
        {
            sparse.Write(expected.AsSpan(0, 0x4a000));
            sparse.Position = 1 << 19;
            sparse.Write(expected.AsSpan(1 << 19));
        }

        NbdServer server = Nbdkit(
            "--filter=blocksize-policy", "file", image, "blocksize-minimum=65536", "blocksize-preferred=65536",
            "blocksize-maximum=32M", "blocksize-error-policy=error");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        CopyAll(file, 0x4b000, 0x90277, 0x20000);

        expected.AsSpan(0x90277, 0x20000).Clear();
        CheckSame(expected, file.Read(0, expected.Length));
    }

    [Fact]
    public void The_ends_of_the_file_are_respected()
    {
        (NbdServer server, _) = Memory();
        using RawFile file = RawFile.Open(Mount(server.Uri).File, LibC.O_RDWR);
        byte[] data = Data.Random(4096);
        Assert.Equal(data.Length, file.Write(0, data));

        Assert.Equal(0, file.CopyTo(file, SizeBytes, 0, 4096));
        Assert.Equal(1000, file.CopyTo(file, SizeBytes - 1000, 8192, 4096));
        Assert.Equal(1000, file.CopyTo(file, 0, SizeBytes - 1000, 4096));
        Assert.Equal(-LibC.ENOSPC, file.CopyTo(file, 0, SizeBytes, 4096));
        Assert.Equal(-LibC.EINVAL, file.CopyTo(file, 0, 4095, 4096));
        Assert.Equal(data[..1000], file.Read(SizeBytes - 1000, 4096));
    }

    [Fact]
    public void One_call_copies_no_more_than_others_can_wait_for()
    {
        (NbdServer server, _) = Memory("256M");
        using RawFile file = RawFile.Open(Mount(server.Uri).File, LibC.O_RDWR);
        byte[] data = Data.Random(1 << 20);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(data.Length, file.Write(i << 20, data));
        }

        Assert.Equal(64 << 20, file.CopyTo(file, 0, 128 << 20, 100 << 20));
    }

    [Fact]
    public void A_copy_to_a_file_that_was_opened_with_o_dsync_is_durable()
    {
        (NbdServer server, NbdkitLog log) = Memory();
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile source = RawFile.Open(mount.File, LibC.O_RDONLY);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        using RawFile durable = RawFile.Open(mount.File, LibC.O_RDWR | LibC.O_DSYNC);
        Assert.Equal(1 << 20, file.Write(0, Data.Random(1 << 20)));

        Assert.Equal(1 << 20, source.CopyTo(file, 0, 4 << 20, 1 << 20));
        Assert.Equal(0, log.Succeeded("Flush"));

        Assert.Equal(1 << 20, source.CopyTo(durable, 0, 2 << 20, 1 << 20));
        Assert.Equal(1, log.Succeeded("Flush"));
        Assert.Equal("Flush", log.Commands[^1].Name);
    }

    [Fact]
    public void An_error_in_the_middle_makes_a_short_copy_and_then_the_error()
    {
        NbdServer server = Nbdkit(
            "eval", "get_size=echo 16M", "pread=[ $4 -ge 2097152 ] && [ $4 -lt 8388608 ] && { echo ENOMEM no >&2; exit 1; }; head -c $3 /dev/zero",
            "pwrite=cat >/dev/null", "can_write=exit 0");
        using RawFile file = RawFile.Open(Mount(server.Uri).File, LibC.O_RDWR);

        long count = file.CopyTo(file, 0, 8 << 20, 4 << 20);

        Assert.Equal(2 << 20, count);
        Assert.Equal(-LibC.ENOMEM, file.CopyTo(file, count, (8 << 20) + count, 4 << 20));
    }

    [Fact]
    public void A_copy_that_waits_for_the_server_can_be_killed_and_holds_up_nobody_who_reads()
    {
        (NbdServer server, _) = Memory(delay: true);
        NbdFuseMount mount = Mount(server.Uri);
        BackgroundProcess copy = Background(
            "python3", "-c", "import os,sys\nfd=os.open(sys.argv[1],os.O_RDWR)\nos.copy_file_range(fd,fd,1<<20,0,1<<23)", mount.File);
        Wait.Until(() => new NbdkitLog(LogPath).Commands.Any(command => command.Name is "Write" or "Zero"), "the copy is under way");
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY | LibC.O_DIRECT))
        {
            Assert.Equal(4096, file.Read(0, 4096).Length);

            copy.Signal(LibC.SIGKILL);

            copy.WaitForExit(TimeSpan.FromSeconds(5));
            Assert.Equal(4096, file.Read(0, 4096).Length);
        }

        server.Kill();
        mount.Unmount(exitCode: 1);
    }

    [Fact]
    public void Partitions_and_their_disk_are_copied_to_each_other_but_not_onto_themselves()
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["--partitions"], Source = [server.Uri] });
        string script = Folder.FileAt("script");
        File.WriteAllText(script, "label: gpt\nsize=4MiB\nsize=8MiB\n");
        Tool.Run("sh", "-c", "sfdisk -q --no-reread --no-tell-kernel \"$1\" < \"$2\"", "sh", mount.File, script);
        Wait.Until(() => File.Exists(mount.File + ".p2"), "the partitions are there");
        using RawFile disk = RawFile.Open(mount.File, LibC.O_RDWR);
        using RawFile first = RawFile.Open(mount.File + ".p1", LibC.O_RDWR);
        using RawFile second = RawFile.Open(mount.File + ".p2", LibC.O_RDWR);
        byte[] data = Data.Random(100_000);
        Assert.Equal(data.Length, first.Write((4 << 20) - 100_000, data));

        Assert.Equal(100_000, first.CopyTo(second, (4 << 20) - 100_000, 5000, 200_000));
        Assert.Equal(100_000, first.CopyTo(disk, (4 << 20) - 100_000, 40 << 20, 200_000));

        Assert.Equal(data, second.Read(5000, data.Length));
        Assert.Equal(data, disk.Read(40 << 20, data.Length));
        Assert.Equal(-LibC.EINVAL, first.CopyTo(disk, 0, 1 << 20, 4096));
        Assert.Equal(-LibC.ENOSPC, first.CopyTo(second, 0, 8 << 20, 4096));
        Assert.Equal(4096, first.CopyTo(second, 0, (8 << 20) - 4096, 8192));
    }

    private static void CopyAll(RawFile file, long from, long to, long length)
    {
        for (long done = 0; done < length;)
        {
            long count = file.CopyTo(file, from + done, to + done, length - done);
            Assert.True(count > 0, $"copy_file_range gave {count} after {done} bytes");
            done += count;
        }
    }

    private static void CheckSame(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual)
    {
        int same = expected.CommonPrefixLength(actual);
        Assert.True(same == expected.Length && same == actual.Length, $"wrong from byte {same} of {actual.Length} on");
    }

    private void CheckServer(NbdServer server, byte[] expected)
    {
        string copy = Folder.FileAt("copy");
        Tool.Run("nbdcopy", server.Uri, copy);
        CheckSame(expected, File.ReadAllBytes(copy));
    }

    private (NbdServer Server, NbdkitLog Log) Memory(string? size = null, bool delay = false)
    {
        string[] filters = delay ? ["--filter=delay"] : [];
        string[] parameters = delay ? ["wdelay=60"] : [];
        NbdServer server = Nbdkit(
            ["--filter=log", .. filters, "memory", size ?? $"{SizeBytes}", $"logfile={LogPath}", .. parameters]);
        return (server, new NbdkitLog(LogPath));
    }
}

public sealed class CopyRangeOverDeviceTests : CopyRangeTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class CopyRangeOverUringTests : CopyRangeTests
{
    private protected override string Transport => Transports.Uring;
}

/// <summary>From one export to another. With --all there is no io_uring.</summary>
public sealed class CopyBetweenExportsTests : IntegrationTest
{
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void Exports_of_one_mount_are_copied_to_each_other(int connections)
    {
        NbdServer server = NbdServe("--export", "from=memory 8M", "--export", "to=memory 6M");
        Folder.Folder("exports");
        NbdFuseMount mount = Mount(new MountRequest
        {
            Options = ["--all", "-C", $"{connections}"],
            MountPoint = "exports",
            Source = [server.Uri],
        });
        using RawFile from = RawFile.Open(Path.Combine(mount.MountPath, "from"), LibC.O_RDWR);
        using RawFile to = RawFile.Open(Path.Combine(mount.MountPath, "to"), LibC.O_RDWR);
        byte[] expected = Data.Random(6 << 20);
        Assert.Equal(expected.Length, to.Write(0, expected));
        byte[] data = Data.Random(3_000_000, 2);
        Assert.Equal(data.Length, from.Write(1_000_000, data));

        Assert.Equal(4_000_001, from.CopyTo(to, 0, 1, 4_000_001));

        expected.AsSpan(1, 1_000_000).Clear();
        data.CopyTo(expected, 1_000_001);
        expected[4_000_001] = 0;
        Assert.True(expected.AsSpan().SequenceEqual(to.Read(0, expected.Length)), "the copy differs");
    }

    [Fact]
    public void Cp_copies_one_export_over_another()
    {
        NbdServer server = NbdServe("--export", "from=pattern 8M", "--export", "to=memory 8M");
        Folder.Folder("exports");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["--all"], MountPoint = "exports", Source = [server.Uri] });

        Tool.Run("cp", Path.Combine(mount.MountPath, "from"), Path.Combine(mount.MountPath, "to"));

        Tool.Run("cmp", Path.Combine(mount.MountPath, "from"), Path.Combine(mount.MountPath, "to"));
    }
}
