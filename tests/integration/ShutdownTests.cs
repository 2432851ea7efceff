using Tmds.Linux;

namespace IntegrationTests;

public abstract class ShutdownTests : IntegrationTest
{
    [Theory]
    [InlineData("TERM")]
    [InlineData("INT")]
    [InlineData("HUP")]
    public void A_signal_unmounts_and_the_exit_status_is_0(string signal)
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "1M").Uri);

        mount.Stop(signal switch { "TERM" => LibC.SIGTERM, "INT" => LibC.SIGINT, _ => LibC.SIGHUP });

        Assert.Equal("", mount.Log);
    }

    [Fact]
    public void Unmounting_ends_nbdfuse_silently()
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "1M").Uri);

        mount.Unmount();

        Assert.Equal("", mount.Log);
    }

    [Fact]
    public void The_captive_server_is_gone_when_nbdfuse_is()
    {
        string image = Folder.FileAt("image");
        File.WriteAllBytes(image, new byte[1 << 20]);
        NbdFuseMount mount = Mount("[", "qemu-nbd", "-f", "raw", image, "]");

        MountTable.Unmount(mount.MountPath);
        mount.Process.WaitForExit();

        Assert.Empty(ProcessTable.Mentioning(image));
    }

    [Fact]
    public void SIGTERM_with_open_files_ends_nbdfuse()
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "1M").Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        file.Write(0, Data.Random(4096));

        mount.Stop(LibC.SIGTERM);
    }

    /// <summary>What a program stored through a mapping that it still has, or that the kernel collected.</summary>
    [Theory]
    [InlineData("--cache=writethrough", "mnt/disk")]
    [InlineData("--cache=none", "mnt/disk")]
    [InlineData("--cache=writeback", "mnt/disk")]
    [InlineData("--cache=writethrough", "file")]
    [InlineData("--partitions", "mnt/disk")]
    public void SIGTERM_pushes_what_programs_that_go_on_have_changed(string option, string mountPoint)
    {
        File.WriteAllText(Folder.FileAt("file"), "");
        NbdServer server = Nbdkit("memory", "1M");
        NbdFuseMount mount = Mount(
            new MountRequest { Options = [option], MountPoint = mountPoint, Source = [server.Uri] });
        _ = ChangeAndStay(mount.File, isWritten: option == "--cache=writeback");

        mount.Stop(LibC.SIGTERM);

        Assert.Equal(Data.Filled(4096, 0x5a), Content(server.Uri)[8192..12288]);
        Assert.Equal("", mount.Log);
    }

    [Fact]
    public void SIGTERM_waits_in_vain_for_a_server_that_hangs_but_not_for_long()
    {
        NbdServer server = Nbdkit("memory", "1M");
        NbdFuseMount mount = Mount(server.Uri);
        BackgroundProcess program = ChangeAndStay(mount.File);
        server.Signal(LibC.SIGSTOP);

        mount.Process.Signal(LibC.SIGTERM);

        mount.CheckCleanEnd(TimeSpan.FromSeconds(9), exitCode: 1);
        Assert.Contains("may not be at the server", mount.Log);
        program.Signal(LibC.SIGKILL);
        program.WaitForExit();
    }

    [Fact]
    public void SIGTERM_with_64_reads_in_flight_ends_nbdfuse()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit(
            "-t", "64", "--filter=log", "--filter=delay", "memory", "16M", $"logfile={log.Path}", "rdelay=60");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-C", "1"], Source = [server.Uri] });
        BackgroundProcess fio = Background(
            "fio", "--name=depth", $"--filename={mount.File}", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=libaio",
            "--iodepth=64", "--size=4M", "--allow_file_create=0", $"--output={Folder.FileAt("fio.log")}");
        Wait.Until(() => log.Commands.Count(command => command.Name == "Read") >= 64, "64 reads are in flight");

        mount.Stop(LibC.SIGTERM, TimeSpan.FromSeconds(9));

        Assert.NotEqual(0, fio.WaitForExit());
    }

    [Fact]
    public void SIGTERM_under_load_breaks_no_connection_of_the_server()
    {
        for (int round = 0; round < 3; round++)
        {
            NbdkitLog log = new(Folder.FileAt($"nbdkit{round}.log"));
            NbdServer server = Nbdkit("--filter=log", "memory", "64M", $"logfile={log.Path}");
            NbdFuseMount mount = Mount(server.Uri);
            BackgroundProcess fio = Background(
                "fio", "--name=load", $"--filename={mount.File}", "--rw=randrw", "--bs=16k", "--direct=1",
                "--ioengine=libaio", "--iodepth=64", "--size=64M", "--time_based", "--runtime=60",
                "--allow_file_create=0", $"--output={Folder.FileAt("fio.log")}");
            Wait.Until(() => log.Commands.Count > 200, "fio is at work");

            mount.Stop(LibC.SIGTERM, TimeSpan.FromSeconds(9));

            Assert.NotEqual(0, fio.WaitForExit());
            Assert.Equal("67108864", Tool.Run("nbdinfo", "--size", server.Uri).Trim());
        }
    }

    [Fact]
    public void SIGTERM_does_not_wait_for_a_program_that_goes_on_using_the_file()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit(
            "--filter=log", "--filter=delay", "memory", "64M", $"logfile={log.Path}", "rdelay=50ms", "wdelay=50ms", "-t", "64");
        NbdFuseMount mount = Mount(server.Uri);

        // There is always a request in flight.
        BackgroundProcess fio = Background(
            "fio", "--name=load", $"--filename={mount.File}", "--rw=randrw", "--bs=4k", "--direct=1",
            "--ioengine=libaio", "--iodepth=32", "--size=64M", "--time_based", "--runtime=60",
            "--allow_file_create=0", $"--output={Folder.FileAt("fio.log")}");
        Wait.Until(() => log.Commands.Count > 200, "fio is at work");

        mount.Stop(LibC.SIGTERM, TimeSpan.FromSeconds(9));

        Assert.Empty(mount.Log);
        Assert.NotEqual(0, fio.WaitForExit());
    }

    [Fact]
    [Trait("Speed", "Slow")]
    public void Unmounting_under_load_50_times_leaves_nothing()
    {
        // So large that neither program comes to its end.
        NbdServer server = Nbdkit("null", "1T");
        for (int round = 0; round < 50; round++)
        {
            NbdFuseMount mount = Mount(server.Uri);
            BackgroundProcess[] load =
            [
                .. new[] { "iflag", "oflag" }.Select(flag => Background(
                    "dd", flag == "iflag" ? $"if={mount.File}" : "if=/dev/zero", flag == "iflag" ? "of=/dev/null" : $"of={mount.File}",
                    "bs=4k", "conv=notrunc", $"{flag}=direct")),
            ];
            Wait.Until(
                () => load.All(dd => dd.HasExited || ProcessTable.WaitsForFuse(dd.Id)), "both are at work", TimeSpan.FromSeconds(20));
            Assert.DoesNotContain(load, dd => dd.HasExited);

            if (round % 2 == 0)
            {
                mount.Stop(LibC.SIGTERM, TimeSpan.FromSeconds(9));
            }
            else
            {
                Tool.Run("fusermount3", "-u", "-z", mount.MountPath);
                Array.ForEach(load, dd => dd.Signal(LibC.SIGKILL));
                mount.CheckCleanEnd(TimeSpan.FromSeconds(30));
            }

            Assert.All(load, dd => Assert.NotEqual(0, dd.WaitForExit()));
        }
    }

    [Fact]
    public void Writes_in_flight_at_SIGTERM_reach_the_server()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit(
            "--filter=log", "--filter=delay", "memory", "16M", $"logfile={log.Path}", "wdelay=1");
        NbdFuseMount mount = Mount(server.Uri);
        byte[] data = Data.Filled(1 << 20, 0x3c);
        File.WriteAllBytes(Folder.FileAt("source"), data);
        Background("dd", $"if={Folder.FileAt("source")}", $"of={mount.File}", "bs=1M", "conv=notrunc", "oflag=direct");
        Wait.Until(() => log.Commands.Any(command => command.Name == "Write"), "the write is in flight");

        mount.Stop(LibC.SIGTERM, TimeSpan.FromSeconds(9));

        Tool.Run("nbdcopy", server.Uri, Folder.FileAt("copy"));
        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("copy"))[..data.Length]);
    }

    [Fact]
    public void Of_many_large_writes_at_SIGTERM_those_that_succeeded_are_at_the_server()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "16M", $"logfile={log.Path}");
        NbdFuseMount mount = Mount(server.Uri);
        LargeWriters writers = LargeWriters.Start(Background, mount.File);
        Wait.Until(() => log.Succeeded("Write") > 50 || writers.Process.HasExited, "the writers are at work");

        mount.Stop(LibC.SIGTERM, TimeSpan.FromSeconds(9));

        Assert.Empty(mount.Log);
        LargeWriters.Check(writers.WaitForEnd(), Content(server.Uri));
    }

    [Fact]
    public void A_lazy_unmount_lets_open_files_go_on_and_then_ends_nbdfuse()
    {
        NbdServer server = Nbdkit("pattern", "4M");
        NbdFuseMount mount = Mount(server.Uri);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY | LibC.O_DIRECT))
        {
            Tool.Run("fusermount3", "-u", "-z", mount.MountPath);

            Assert.Equal(Data.Pattern(1 << 20, 1 << 20), file.Read(1 << 20, 1 << 20));
            Assert.False(mount.Process.HasExited, "nbdfuse is gone");
        }

        mount.CheckCleanEnd();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Aborting_the_fuse_connection_ends_nbdfuse_and_unmounts(bool hung)
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "only root may abort");
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(server.Uri);
        BackgroundProcess? dd = null;
        if (hung)
        {
            server.Signal(LibC.SIGSTOP);
            dd = Background("dd", $"if={mount.File}", "of=/dev/null", "bs=1M", "iflag=direct");
            Wait.Until(() => ProcessTable.WaitsForFuse(dd.Id), "dd waits");
        }

        string number = MountTable.Read().First(entry => entry.Path == mount.MountPath).Device.Split(':')[1];
        File.WriteAllText(Path.Combine(FuseControl(), number, "abort"), "1");

        mount.CheckCleanEnd(TimeSpan.FromSeconds(9));
        if (dd is not null)
        {
            Assert.NotEqual(0, dd.WaitForExit(TimeSpan.FromSeconds(5)));
        }
    }

    [Fact]
    public void Mounting_and_unmounting_many_times_leaves_nothing()
    {
        NbdServer server = Nbdkit("pattern", "64K");
        for (int i = 0; i < 20; i++)
        {
            NbdFuseMount mount = Mount(server.Uri);
            Assert.Equal(65536, File.ReadAllBytes(mount.File).Length);
            mount.Unmount();
        }
    }

    // The kernel's control files for FUSE connections. A system without them mounted gets them.
    private static string FuseControl()
    {
        const string Path = "/sys/fs/fuse/connections";
        if (!MountTable.IsMounted(Path))
        {
            Tool.Run("mount", "-t", "fusectl", "fusectl", Path);
        }

        return Path;
    }

    private byte[] Content(string uri)
    {
        string copy = Folder.FileAt("copy");
        Tool.Run("nbdcopy", uri, copy);
        return File.ReadAllBytes(copy);
    }
}

public sealed class ShutdownOverDeviceTests : ShutdownTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class ShutdownOverUringTests : ShutdownTests
{
    private protected override string Transport => Transports.Uring;
}
