using Tmds.Linux;

namespace IntegrationTests;

/// <summary>--cache: what each mode promises about durability, the end of the file and errors; attributes.</summary>
public abstract class CacheModeTests : IntegrationTest
{
    private const int SizeBytes = 1_000_000;

    [Theory]
    [InlineData("none")]
    [InlineData("writethrough")]
    public void A_write_is_at_the_server_when_it_returns(string mode)
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged(mode);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        Assert.Equal(4096, file.Write(8192, Data.Random(4096)));

        Assert.Contains(log.Commands, command => command is { Name: "Write", Offset: 8192 });
    }

    [Theory]
    [InlineData("mnt/disk")]
    [InlineData("file")]
    public void A_writeback_cache_collects_writes_until_fsync(string mountPoint)
    {
        File.WriteAllText(Folder.FileAt("file"), "");
        (NbdFuseMount mount, NbdkitLog log) = MountLogged("writeback", mountPoint);
        Assert.Equal(SizeBytes, new FileInfo(mount.File).Length);
        byte[] data = Data.Random(256 * 1024);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        for (int i = 0; i < data.Length; i += 4096)
        {
            Assert.Equal(4096, file.Write(i, data.AsSpan(i, 4096)));
        }

        Assert.Equal(0, file.Fsync());

        Assert.InRange(log.Commands.Count(command => command.Name == "Write"), 1, 32);
        Assert.Equal("Flush", log.Commands[^1].Name);
        Assert.Equal(data, file.Read(0, data.Length));
    }

    [Theory]
    [InlineData("mnt/disk")]
    [InlineData("file")]
    public void Past_the_end_of_a_writeback_cache_fsync_has_no_space_and_the_size_stays(string mountPoint)
    {
        File.WriteAllText(Folder.FileAt("file"), "");
        (NbdFuseMount mount, _) = MountLogged("writeback", mountPoint);
        byte[] data = Data.Random(4096);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        _ = file.Write(SizeBytes - 1000, data);

        Assert.Equal(-LibC.ENOSPC, file.Fsync());

        Wait.Until(() => new FileInfo(mount.File).Length == SizeBytes, "the size is that of the export again");
        Assert.Equal(data[..1000], file.Read(SizeBytes - 1000, 4096));
    }

    [Fact]
    public void Filling_the_disk_through_a_writeback_cache_ends()
    {
        (NbdFuseMount mount, _) = MountLogged("writeback");

        (int exitCode, string output) = Tool.Try("dd", "if=/dev/zero", $"of={mount.File}", "bs=64k");

        Assert.NotEqual(0, exitCode);
        Assert.Contains("No space left", output);
        Wait.Until(() => new FileInfo(mount.File).Length == SizeBytes, "the size is that of the export again");
    }

    [Fact]
    public void Extended_attributes_tell_what_the_server_said()
    {
        NbdServer server = Nbdkit("--filter=blocksize-policy", "memory", "1M", "blocksize-preferred=65536");
        NbdFuseMount mount = Mount(new MountRequest { Source = [server.Uri] });

        string attributes = Tool.Run(
            "python3",
            "-c",
            "import os,sys\nfor n in os.listxattr(sys.argv[1]): print(n+'='+os.getxattr(sys.argv[1],n).decode())",
            mount.File);

        Assert.Contains($"user.nbd.uri={server.Uri}", attributes);
        Assert.Contains("user.nbd.export=", attributes);
        Assert.Contains("SendFlush", attributes);
        Assert.Contains("user.nbd.block-size=1/65536/", attributes);
        Assert.Equal("65536", Tool.Run("stat", "-c", "%o", mount.File).Trim());
    }

    [Fact]
    public void Mode_and_owner_are_those_asked_for_and_can_be_changed()
    {
        NbdServer server = Nbdkit("memory", "1M");
        NbdFuseMount mount = Mount(
            new MountRequest { Source = [server.Uri], Options = ["--mode=640", "--uid=12", "--gid=34"] });
        Assert.Equal("640 12 34", Tool.Run("stat", "-c", "%a %u %g", mount.File).Trim());

        Tool.Run("chmod", "4600", mount.File);
        Tool.Run("chown", "56:78", mount.File);
        Tool.Run("touch", "-d", "2001-02-03 04:05:06 UTC", mount.File);

        Assert.Equal("600 56 78 981173106", Tool.Run("stat", "-c", "%a %u %g %Y", mount.File).Trim());
    }

    [Theory]
    [InlineData("none")]
    [InlineData("writethrough")]
    [InlineData("writeback")]
    public void The_modify_time_moves_with_writes_and_zeroes_and_with_nothing_else(string mode)
    {
        (NbdFuseMount mount, _) = MountLogged(mode);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        string Touched()
        {
            Tool.Run("touch", "-d", "2001-02-03 04:05:06 UTC", mount.File);
            return ModifyTime();
        }

        string ModifyTime() => Tool.Run("stat", "-c", "%Y", mount.File).Trim();

        string old = Touched();
        Assert.Equal(4096, file.Read(0, 4096).Length);
        Assert.Equal(0, file.Fsync());
        Assert.Equal(old, ModifyTime());
        Assert.Equal(4096, file.Write(0, Data.Random(4096)));
        Assert.Equal(0, file.Fsync());
        Wait.Until(() => ModifyTime() != old, "the write moves the time");
        Assert.Equal(old, Touched());
        Assert.Equal(0, file.Fallocate(LibC.FALLOC_FL_KEEP_SIZE | LibC.FALLOC_FL_PUNCH_HOLE, 0, 4096));
        Wait.Until(() => ModifyTime() != old, "the hole moves the time");
    }

    [Theory]
    [InlineData("none", false)]
    [InlineData("writethrough", true)]
    public void Changes_of_another_client_are_seen_at_once_or_when_the_file_is_opened_again(string mode, bool needsOpen)
    {
        NbdServer server = Nbdkit("memory", "1M");
        NbdFuseMount mount = Mount(
            new MountRequest { Source = [server.Uri], Options = [$"--cache={mode}", "--readahead=off"] });
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);
        Assert.Equal(new byte[4096], file.Read(0, 4096));

        Tool.Run("qemu-io", "-f", "raw", "-c", "write -P 0x33 0 64k", server.Uri);

        Assert.Equal(Data.Filled(4096, needsOpen ? (byte)0 : (byte)0x33), file.Read(0, 4096));
        using RawFile later = RawFile.Open(mount.File, LibC.O_RDONLY);
        Assert.Equal(Data.Filled(4096, 0x33), later.Read(0, 4096));
    }

    /// <summary>Opening a file has its holes looked up, for which no page of the cache waits.</summary>
    [Fact]
    public void Changes_of_another_client_are_seen_while_the_server_is_asked_for_holes()
    {
        NbdServer server = Nbdkit("--filter=delay", "memory", "1M", "delay-extents=2");
        NbdFuseMount mount = Mount(new MountRequest { Source = [server.Uri], Options = ["--readahead=off"] });
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);
        Assert.Equal(new byte[4096], file.Read(0, 4096));

        Tool.Run("qemu-io", "-f", "raw", "-c", "write -P 0x33 0 64k", server.Uri);

        using RawFile later = RawFile.Open(mount.File, LibC.O_RDONLY);
        Assert.Equal(Data.Filled(4096, 0x33), later.Read(0, 4096));
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData("kernel_cache", true)]
    [InlineData("auto_cache", true)]
    [InlineData("direct_io", false)]
    public void What_is_cached_stays_when_the_file_is_opened_again_if_asked_for(string? option, bool stays)
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "4M", $"logfile={log.Path}");
        string[] options = option is null ? [] : ["-o", option];
        NbdFuseMount mount = Mount(new MountRequest { Source = [server.Uri], Options = ["--readahead=off", .. options] });
        int Reads() => log.Commands.Count(command => command.Name == "Read");

        Tool.Run("cmp", "-n", "4M", mount.File, "/dev/zero");
        int first = Reads();
        Tool.Run("cmp", "-n", "4M", mount.File, "/dev/zero");

        Assert.True(first > 0, "nothing was read");
        Assert.Equal(stays, Reads() == first);
    }

    [Fact]
    public void The_uri_of_the_attributes_and_of_the_mount_has_no_secrets()
    {
        NbdServer server = NbdkitTcp("memory", "1M");
        string keys = Folder.FileAt("keys.psk");
        File.WriteAllText(keys, "somebody:0123456789abcdef\n");
        NbdFuseMount mount = Mount($"nbd://somebody@localhost:{server.Port}/name?tls-psk-file={keys}");

        string uri = Tool.Run("python3", "-c", "import os,sys\nprint(os.getxattr(sys.argv[1],'user.nbd.uri').decode())", mount.File);

        Assert.Equal($"nbd://localhost:{server.Port}/name", uri.Trim());
        Assert.DoesNotContain("somebody", File.ReadAllText("/proc/self/mountinfo"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Root_is_let_in_beside_the_user_and_nobody_else(bool allowRoot)
    {
        NbdServer server = Nbdkit("memory", "1M");
        NbdFuseMount mount = Mount(
            new MountRequest { Source = [server.Uri], Options = allowRoot ? ["-o", "allow_root"] : ["-o", "allow_other"] });
        Tool.Run("chmod", "755", Folder.Path);

        string[] read = Tool.AsOrdinaryUser("head", "-c", "1", mount.File);

        Assert.Equal(!allowRoot, Tool.Try(read[0], read[1..]).ExitCode == 0);
        Assert.Equal(0, Tool.Try("head", "-c", "1", mount.File).ExitCode);
    }

    private (NbdFuseMount Mount, NbdkitLog Log) MountLogged(string mode, string mountPoint = "mnt/disk")
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", $"{SizeBytes}", $"logfile={log.Path}");
        NbdFuseMount mount = Mount(
            new MountRequest { Source = [server.Uri], Options = [$"--cache={mode}"], MountPoint = mountPoint });
        return (mount, log);
    }
}

public sealed class CacheModeOverDeviceTests : CacheModeTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class CacheModeOverUringTests : CacheModeTests
{
    private protected override string Transport => Transports.Uring;
}
