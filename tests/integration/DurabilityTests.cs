using Tmds.Linux;

namespace IntegrationTests;

/// <summary>What is promised to be stable was flushed: seen in the server's log.</summary>
public abstract class DurabilityTests : IntegrationTest
{
    [Fact]
    public void Fsync_is_a_flush_after_the_write()
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged();
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        file.Write(8192, Data.Random(4096));

        Assert.Equal(0, file.Fsync());

        CheckFlushedAfterLastWrite(log, 8192);
    }

    [Fact]
    public void Fdatasync_is_a_flush_after_the_write()
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged();
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        file.Write(8192, Data.Random(4096));

        Assert.Equal(0, file.Fdatasync());

        CheckFlushedAfterLastWrite(log, 8192);
    }

    [Fact]
    public void Msync_is_a_flush_after_the_write()
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged();
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        file.WriteMapped(8192, Data.Random(4096));

        CheckFlushedAfterLastWrite(log, 8192);
    }

    [Fact]
    public void Unmounting_flushes()
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged();
        WriteOnly(mount.File);

        mount.Unmount();

        CheckFlushedAfterLastWrite(log, 8192);
    }

    [Fact]
    public void SIGTERM_flushes()
    {
        (NbdFuseMount mount, NbdkitLog log) = MountLogged();
        WriteOnly(mount.File);

        mount.Stop(LibC.SIGTERM);

        CheckFlushedAfterLastWrite(log, 8192);
    }

    [Fact]
    public void A_flush_that_fails_is_an_error_of_fsync_and_of_the_exit_status()
    {
        NbdServer server = Nbdkit(
            "eval",
            "get_size=echo 1M",
            "pread=head -c $3 /dev/zero",
            "pwrite=cat >/dev/null",
            "can_write=exit 0",
            "can_flush=exit 0",
            "flush=echo EIO no >&2; exit 1");
        NbdFuseMount mount = Mount(server.Uri);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR))
        {
            Assert.Equal(4096, file.Write(0, Data.Random(4096)));

            Assert.Equal(-LibC.EIO, file.Fsync());
            Assert.Equal(-LibC.EIO, file.Fdatasync());
        }

        mount.Unmount(exitCode: 1);
        Assert.Contains("flush", mount.Log);
    }

    /// <summary>The READs that were sent ahead of the reader are in flight at the fsync(2) and at the end.</summary>
    [Fact]
    public void Reading_ahead_makes_no_second_flush_at_the_end()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit(
            "--filter=log", "--filter=delay", "memory", "64M", $"logfile={log.Path}", "rdelay=500ms", "-t", "64");
        NbdFuseMount mount = Mount(server.Uri);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR | LibC.O_DIRECT))
        {
            Assert.Equal(4096, file.Write(32 << 20, new byte[4096]));
            for (int i = 0; i < 4; i++)
            {
                Assert.Equal(4096, file.Read(i * 4096, 4096).Length);
            }

            int commands = log.Commands.Count;
            Assert.Equal(0, file.Fsync());
            Assert.Equal(["Flush"], log.Commands.Skip(commands).Select(command => command.Name));
        }

        mount.Stop(LibC.SIGTERM);

        Assert.Single(log.Commands, command => command.Name == "Flush");
    }

    private static void WriteOnly(string path)
    {
        using RawFile file = RawFile.Open(path, LibC.O_RDWR);
        Assert.Equal(4096, file.Write(8192, Data.Random(4096)));
    }

    private static void CheckFlushedAfterLastWrite(NbdkitLog log, long offset)
    {
        IReadOnlyList<LoggedCommand> commands = log.Commands;
        int write = commands.ToList().FindLastIndex(command => command.Name == "Write");
        Assert.True(write >= 0 && commands[write].Offset == offset, "the server saw no such write");
        Assert.Contains(commands.Skip(write + 1), command => command.Name == "Flush");
    }

    private (NbdFuseMount Mount, NbdkitLog Log) MountLogged()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "1M", $"logfile={log.Path}");
        return (Mount(server.Uri), log);
    }
}

public sealed class DurabilityOverDeviceTests : DurabilityTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class DurabilityOverUringTests : DurabilityTests
{
    private protected override string Transport => Transports.Uring;
}
