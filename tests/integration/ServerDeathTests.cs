using Linux;
using Tmds.Linux;

namespace IntegrationTests;

/// <summary>
/// The server is killed: errors for the programs, never a hang, and nbdfuse lives and unmounts. Its exit status is 1
/// when something was written since the last good flush.
/// </summary>
public abstract class ServerDeathTests : IntegrationTest
{
    [Fact]
    public void Killed_while_idle_everything_after_is_an_error_and_unmounting_works()
    {
        NbdServer server = Nbdkit("memory", "16M");
        NbdFuseMount mount = Mount(server.Uri);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR | LibC.O_DIRECT))
        {
            file.Read(0, 4096);

            server.Kill();

            Assert.Equal(Errno.EIO, Assert.Throws<LinuxException>(() => file.Read(0, 4096)).Errno);
            Assert.Equal(-LibC.EIO, file.Write(0, Data.Random(4096)));
            Assert.Equal(-LibC.EIO, file.Fsync());
            Assert.Equal(Errno.EIO, Assert.Throws<LinuxException>(() => file.Read(8192, 4096)).Errno);
        }

        Assert.Equal(16 << 20, new FileInfo(mount.File).Length);
        Assert.False(mount.Process.HasExited, "nbdfuse is gone");
        mount.Unmount(exitCode: 1);
    }

    [Theory]
    [InlineData("read", "iflag=direct")]
    [InlineData("read", "iflag=fullblock")]
    [InlineData("write", "oflag=direct")]
    [InlineData("write", "oflag=sync")]
    public void Killed_with_requests_in_flight_they_end_with_an_error(string operation, string flag)
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit(
            "--filter=log", "--filter=delay", "memory", "16M", $"logfile={log.Path}", "rdelay=60", "wdelay=60");
        NbdFuseMount mount = Mount(server.Uri);
        BackgroundProcess dd = operation == "read"
            ? Background("dd", $"if={mount.File}", "of=/dev/null", "bs=1M", flag)
            : Background("dd", "if=/dev/zero", $"of={mount.File}", "bs=1M", "count=8", "conv=notrunc", flag);
        Wait.Until(() => log.Commands.Any(command => command.Name is "Read" or "Write"), "a request is in flight");

        server.Kill();

        Assert.NotEqual(0, dd.WaitForExit());
        Assert.Contains("Input/output error", dd.Log);
        Assert.False(mount.Process.HasExited, "nbdfuse is gone");
        mount.Unmount(exitCode: operation == "read" ? 0 : 1);
    }

    [Fact]
    public void The_loss_is_told_once_however_many_requests_fail()
    {
        NbdServer server = Nbdkit("memory", "16M");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-C", "1"], Source = [server.Uri] });
        server.Kill();

        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR | LibC.O_DIRECT))
        {
            for (int i = 0; i < 100; i++)
            {
                Assert.True(file.Write(i * 4096, Data.Random(4096)) < 0, "a write without a server succeeded");
            }
        }

        string line = Assert.Single(mount.Log.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.StartsWith("nbdfuse: ", line);
        mount.Unmount(exitCode: 1);
    }

    [Fact]
    public void Many_programs_at_work_all_get_errors()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "256M", $"logfile={log.Path}");
        NbdFuseMount mount = Mount(server.Uri);
        BackgroundProcess fio = Background(
            "fio", "--name=load", $"--filename={mount.File}", "--rw=randrw", "--bs=16k", "--direct=1", "--ioengine=libaio",
            "--iodepth=16", "--numjobs=4", "--size=64M", "--time_based", "--runtime=60", "--allow_file_create=0",
            $"--output={Folder.FileAt("fio.log")}");
        Wait.Until(() => log.Commands.Count > 200 || fio.HasExited, "fio is at work");

        server.Kill();

        Assert.NotEqual(0, fio.WaitForExit());
        Assert.False(mount.Process.HasExited, "nbdfuse is gone");
        mount.Unmount(exitCode: 1);
    }

    /// <summary>
    /// A server that stopped reading before has not got all that it was sent: over rings its socket refers to the memory
    /// of the programs' requests, and further writes wait for room.
    /// </summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Many_large_writes_at_once_all_get_errors(bool isStopped)
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "16M", $"logfile={log.Path}");
        NbdFuseMount mount = Mount(server.Uri);
        LargeWriters writers = LargeWriters.Start(Background, mount.File);
        Wait.Until(() => log.Succeeded("Write") > 20 || writers.Process.HasExited, "the writers are at work");
        if (isStopped)
        {
            server.Signal(LibC.SIGSTOP);
            Wait.Until(
                () => ProcessTable.ThreadsThatWaitForFuse(writers.Process.Id) == LargeWriters.Threads, "all writers wait");
        }

        server.Kill();

        Assert.All(writers.WaitForEnd(), thread => Assert.Equal("EIO", thread.End));
        Assert.False(mount.Process.HasExited, "nbdfuse is gone");
        mount.Unmount(exitCode: 1);
    }

    [Fact]
    public void SIGTERM_after_the_servers_death_ends_well()
    {
        NbdServer server = Nbdkit("memory", "16M");
        NbdFuseMount mount = Mount(server.Uri);
        server.Kill();

        mount.Stop(LibC.SIGTERM);
    }

    [Fact]
    public void A_captive_servers_death_is_the_same()
    {
        string image = Folder.FileAt("image");
        File.WriteAllBytes(image, new byte[1 << 20]);
        NbdFuseMount mount = Mount("--socket-activation", "qemu-nbd", "-f", "raw", image);
        int id = ProcessTable.Mentioning(image).First(process => process.Value.StartsWith("qemu-nbd", StringComparison.Ordinal)).Key;

        _ = LibC.kill(id, LibC.SIGKILL);

        Wait.Until(() => !ProcessTable.IsAlive(id), "the server is gone");
        Assert.NotEqual(0, Tool.Try("dd", $"if={mount.File}", "of=/dev/null", "iflag=direct", "bs=4096").ExitCode);
        Assert.False(mount.Process.HasExited, "nbdfuse is gone");
        mount.Unmount();
    }
}

public sealed class ServerDeathOverDeviceTests : ServerDeathTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class ServerDeathOverUringTests : ServerDeathTests
{
    private protected override string Transport => Transports.Uring;
}
