using Tmds.Linux;

namespace IntegrationTests;

/// <summary>
/// The server is stopped with SIGSTOP, as if the network had swallowed it: whoever waits for it can be killed, and
/// nbdfuse can be ended.
/// </summary>
public abstract class HungServerTests : IntegrationTest
{
    private static readonly TimeSpan s_soon = TimeSpan.FromSeconds(5);

    // What nbdfuse promises (5 s) and some grace for a busy machine.
    private static readonly TimeSpan s_endOfDaemon = TimeSpan.FromSeconds(9);

    [Theory]
    [InlineData("INT", "if=DISK", "of=/dev/null", "bs=4096", "iflag=direct")]
    [InlineData("KILL", "if=DISK", "of=/dev/null", "bs=4096", "iflag=direct")]
    [InlineData("INT", "if=DISK", "of=/dev/null", "bs=4096")]
    [InlineData("KILL", "if=DISK", "of=/dev/null", "bs=4096")]
    [InlineData("INT", "if=/dev/zero", "of=DISK", "bs=4096", "conv=notrunc", "oflag=direct")]
    [InlineData("KILL", "if=/dev/zero", "of=DISK", "bs=4096", "conv=notrunc", "oflag=direct")]
    [InlineData("INT", "if=/dev/zero", "of=DISK", "bs=4096", "conv=notrunc")]
    [InlineData("KILL", "if=/dev/zero", "of=DISK", "bs=4096", "conv=notrunc")]
    [InlineData("INT", "if=/dev/zero", "of=DISK", "bs=1M", "count=64", "conv=notrunc", "oflag=direct")]
    [InlineData("KILL", "if=/dev/zero", "of=DISK", "bs=1M", "count=64", "conv=notrunc", "oflag=direct")]
    [InlineData("INT", "if=/dev/zero", "of=DISK", "bs=1M", "count=64", "conv=notrunc")]
    [InlineData("KILL", "if=/dev/zero", "of=DISK", "bs=1M", "count=64", "conv=notrunc")]
    [InlineData("INT", "if=/dev/null", "of=DISK", "conv=notrunc,fsync")]
    [InlineData("KILL", "if=/dev/null", "of=DISK", "conv=notrunc,fsync")]
    [InlineData("INT", "if=/dev/null", "of=DISK", "conv=notrunc,fdatasync")]
    [InlineData("KILL", "if=/dev/null", "of=DISK", "conv=notrunc,fdatasync")]
    public void A_program_that_waits_can_be_killed(string signal, params string[] how)
    {
        (NbdServer server, NbdFuseMount mount) = MountAndStop();
        BackgroundProcess dd = Waiting("dd", [.. how.Select(word => word.Replace("DISK", mount.File))]);

        dd.Signal(signal == "INT" ? LibC.SIGINT : LibC.SIGKILL);

        dd.WaitForExit(s_soon);
        server.Signal(LibC.SIGCONT);
        mount.Unmount();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_program_that_looks_for_holes_can_be_killed(bool kill)
    {
        (NbdServer server, NbdFuseMount mount) = MountAndStop();
        BackgroundProcess seeker = Waiting("python3", "-c", $"import os; os.lseek(os.open('{mount.File}', os.O_RDONLY), 0, os.SEEK_HOLE)");

        seeker.Signal(kill ? LibC.SIGKILL : LibC.SIGINT);

        seeker.WaitForExit(s_soon);
        server.Signal(LibC.SIGCONT);
        mount.Unmount();
    }

    [Fact]
    public void SIGTERM_ends_nbdfuse_while_a_program_looks_for_holes()
    {
        (_, NbdFuseMount mount) = MountAndStop();
        BackgroundProcess seeker = Waiting("python3", "-c", $"import os; os.lseek(os.open('{mount.File}', os.O_RDONLY), 0, os.SEEK_HOLE)");

        mount.Stop(LibC.SIGTERM, s_endOfDaemon);

        Assert.NotEqual(0, seeker.WaitForExit(s_soon));
    }

    /// <summary>The page that the kernel is asked to write back before there is a hole is one that the server never takes.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_end_of_nbdfuse_frees_who_looks_for_holes_among_dirty_pages(bool kill)
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(server.Uri);
        string stop = Folder.FileAt("stop");
        BackgroundProcess seeker = Background(
            "python3",
            "-c",
            "import os, mmap, time\n"
            + $"file = os.open('{mount.File}', os.O_RDWR)\n"
            + "os.lseek(file, 0, os.SEEK_HOLE)\n"
            + "memory = mmap.mmap(file, 65536, offset=1 << 20)\n"
            + "memory[5] = 1\n"
            + $"open('{stop}', 'w').close()\n"
            + $"while os.path.exists('{stop}'): time.sleep(0.01)\n"
            + "print('at', os.lseek(file, 0, os.SEEK_DATA), flush=True)\n");
        Wait.Until(() => File.Exists(stop), "the page is dirty");
        server.Signal(LibC.SIGSTOP);
        File.Delete(stop);
        Wait.Until(() => ProcessTable.Mentioning("--write-back-mounted-file").Count > 0, "the kernel is asked to write back");

        mount.Process.Signal(kill ? LibC.SIGKILL : LibC.SIGTERM);

        mount.Process.WaitForExit(s_endOfDaemon);
        seeker.WaitForExit(s_soon);
        Wait.Until(() => ProcessTable.Mentioning("--write-back-mounted-file").Count == 0, "nobody is left who waits");
        Tool.Try("fusermount3", "-u", "-z", mount.MountPath);
        File.Delete(mount.PidFile);
    }

    [Fact]
    public void Many_large_writes_at_once_can_be_killed()
    {
        (NbdServer server, NbdFuseMount mount) = MountAndStop();
        BackgroundProcess[] writers =
        [
            .. Enumerable.Range(0, 16).Select(i => Waiting(
                "dd", "if=/dev/zero", $"of={mount.File}", "bs=1M", "count=1", $"seek={i}", "conv=notrunc", "oflag=direct")),
        ];

        foreach (BackgroundProcess writer in writers)
        {
            writer.Signal(LibC.SIGKILL);
        }

        foreach (BackgroundProcess writer in writers)
        {
            writer.WaitForExit(s_soon);
        }

        server.Signal(LibC.SIGCONT);
        mount.Unmount();
    }

    /// <summary>
    /// More than there are request objects (/dev/fuse) or entries (rings): the kernel keeps the rest, and no INTERRUPT is read.
    /// </summary>
    [Fact]
    public void More_readers_than_requests_can_be_killed_and_nbdfuse_ended()
    {
        const int Readers = 4300;
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["--cache=none"], Source = [server.Uri] });
        server.Signal(LibC.SIGSTOP);
        BackgroundProcess readers = Background(
            "python3",
            "-c",
            "import os, threading\n"
            + "threading.stack_size(65536)\n"
            + $"file = os.open('{mount.File}', os.O_RDWR)\n"
            + $"for i in range({Readers}): threading.Thread(target=os.pread, args=(file, 4096, 4096 * i)).start()\n");
        Wait.Until(
            () => readers.HasExited || ProcessTable.ThreadsThatWaitForFuse(readers.Id) >= Readers,
            "all readers wait",
            TimeSpan.FromSeconds(30));

        readers.Signal(LibC.SIGKILL);
        readers.WaitForExit(s_soon);

        // The server still has the commands of those that are gone.
        BackgroundProcess late = Waiting("dd", $"if={mount.File}", "of=/dev/null", "bs=4096", "count=1");
        late.Signal(LibC.SIGKILL);
        late.WaitForExit(s_soon);
        mount.Stop(LibC.SIGTERM, s_endOfDaemon);
    }

    [Fact]
    public void Closing_the_file_does_not_hang()
    {
        (NbdServer server, NbdFuseMount mount) = MountAndStop(readFirst: true);
        BackgroundProcess dd = Background("dd", "if=/dev/null", $"of={mount.File}", "conv=notrunc");

        if (!Wait.Try(() => dd.HasExited, TimeSpan.FromSeconds(1)))
        {
            dd.Signal(LibC.SIGKILL);
        }

        dd.WaitForExit(s_soon);
        server.Signal(LibC.SIGCONT);
        mount.Unmount();
    }

    [Fact]
    public void Late_replies_do_not_end_up_in_other_requests()
    {
        NbdServer server = Nbdkit("pattern", "64M");
        NbdFuseMount mount = Mount(server.Uri);
        server.Signal(LibC.SIGSTOP);
        for (int i = 0; i < 8; i++)
        {
            BackgroundProcess dd = Waiting("dd", $"if={mount.File}", "of=/dev/null", "bs=1M", $"skip={i}", "iflag=direct");
            dd.Signal(LibC.SIGKILL);
            dd.WaitForExit(s_soon);
        }

        server.Signal(LibC.SIGCONT);

        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY | LibC.O_DIRECT);
        for (int i = 0; i < 64; i++)
        {
            Assert.Equal(Data.Pattern(i << 20, 1 << 20), file.Read(i << 20, 1 << 20));
        }
    }

    [Fact]
    public void Stat_and_listing_never_wait_for_the_server()
    {
        (NbdServer server, NbdFuseMount mount) = MountAndStop();

        Tool.Run("ls", "-l", mount.MountPath);
        Tool.Run("df", mount.MountPath);

        server.Signal(LibC.SIGCONT);
    }

    [Fact]
    public void A_server_that_goes_on_makes_the_reader_go_on()
    {
        (NbdServer server, NbdFuseMount mount) = MountAndStop();
        BackgroundProcess dd = Waiting("dd", $"if={mount.File}", "of=/dev/null", "bs=1M", "iflag=direct");

        server.Signal(LibC.SIGCONT);

        Assert.Equal(0, dd.WaitForExit());
    }

    [Fact]
    public void SIGTERM_ends_nbdfuse_while_idle()
    {
        (_, NbdFuseMount mount) = MountAndStop();

        mount.Stop(LibC.SIGTERM, s_endOfDaemon);
    }

    [Theory]
    [InlineData("if=DISK", "of=/dev/null", "bs=4096", "iflag=direct")]
    [InlineData("if=/dev/zero", "of=DISK", "bs=1M", "count=64", "conv=notrunc")]
    [InlineData("if=/dev/zero", "of=DISK", "bs=1M", "count=64", "conv=notrunc", "oflag=direct")]
    public void SIGTERM_ends_nbdfuse_and_frees_whoever_waits(params string[] how)
    {
        bool writes = how[0] != "if=DISK";
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, (writes ? LibC.O_RDWR : LibC.O_RDONLY) | LibC.O_DIRECT);
        if (writes)
        {
            // Acknowledged and not flushed, wherever SIGTERM meets the write of dd: the kernel may not have sent it yet.
            Assert.Equal(4096, file.Write(0, new byte[4096]));
        }

        server.Signal(LibC.SIGSTOP);
        BackgroundProcess dd = Waiting("dd", [.. how.Select(word => word.Replace("DISK", mount.File))]);

        mount.Process.Signal(LibC.SIGTERM);

        // What was written is not flushed.
        mount.CheckCleanEnd(s_endOfDaemon, exitCode: writes ? 1 : 0);
        Assert.NotEqual(0, dd.WaitForExit(s_soon));
    }

    [Fact]
    public void SIGTERM_ends_nbdfuse_and_its_hung_captive_server()
    {
        string image = Folder.FileAt("image");
        File.WriteAllBytes(image, new byte[1 << 20]);
        NbdFuseMount mount = Mount("--socket-activation", "qemu-nbd", "-f", "raw", image);
        int id = ProcessTable.Mentioning(image).First(process => process.Value.StartsWith("qemu-nbd", StringComparison.Ordinal)).Key;
        _ = LibC.kill(id, LibC.SIGSTOP);

        mount.Stop(LibC.SIGTERM, s_endOfDaemon);

        Wait.Until(() => !ProcessTable.IsAlive(id), "the captive server is gone");
    }

    [Fact]
    public void After_unmounting_the_server_gets_more_time_unless_a_signal_says_otherwise()
    {
        (_, NbdFuseMount mount) = MountAndStop();
        MountTable.Unmount(mount.MountPath);
        Assert.False(mount.IsMounted);

        mount.Stop(LibC.SIGTERM, s_endOfDaemon);
    }

    private (NbdServer Server, NbdFuseMount Mount) MountAndStop(bool readFirst = false)
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(server.Uri);
        if (readFirst)
        {
            Tool.Run("dd", $"if={mount.File}", "of=/dev/null", "bs=4096", "count=1", "iflag=direct");
        }

        server.Signal(LibC.SIGSTOP);
        return (server, mount);
    }

    private BackgroundProcess Waiting(string program, params string[] arguments)
    {
        // Twice in the same wait: the first stat(2) is answered a moment later, without the server.
        BackgroundProcess process = Background(program, arguments);
        string before = "";
        Wait.Until(
            () =>
            {
                string last = before;
                before = ProcessTable.Sleeps(process.Id);
                return process.HasExited || (before == last && ProcessTable.WaitsForFuse(process.Id));
            },
            $"{program} waits for the server; it is in {ProcessTable.WaitChannel(process.Id)}");
        Assert.False(process.HasExited, "the program ended without the server");
        return process;
    }
}

public sealed class HungServerOverDeviceTests : HungServerTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class HungServerOverUringTests : HungServerTests
{
    private protected override string Transport => Transports.Uring;
}
