using Tmds.Linux;

namespace IntegrationTests;

/// <summary>--cache: what each mode promises about durability, the end of the file and errors; attributes.</summary>
public sealed class CacheModeTests : IntegrationTest
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
