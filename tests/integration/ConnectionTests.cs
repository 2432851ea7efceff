namespace IntegrationTests;

/// <summary>How many connections are opened, and that all of them work, over both transports.</summary>
public abstract class ConnectionTests : IntegrationTest
{
    [Fact]
    public void The_default_depends_on_the_processors()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "16M", $"logfile={log.Path}");

        CheckConnections(
            Mount(server.Uri),
            log,
            Transport == Transports.Uring
                ? Math.Min(8, Environment.ProcessorCount)
                : Math.Min(4, Math.Max(2, Environment.ProcessorCount / 2)));
    }

    [Fact]
    public void A_server_without_multi_conn_gets_one_connection()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit(
            "--filter=log", "--filter=multi-conn", "memory", "16M", "multi-conn-mode=disable", $"logfile={log.Path}");

        CheckConnections(Mount(new MountRequest { Options = ["-C", "4"], Source = [server.Uri] }), log, 1);
    }

    /// <summary>A limit of the server's on its clients, which it announces nowhere.</summary>
    [Fact]
    public void A_server_that_takes_one_client_only_is_told_with_what_to_do()
    {
        NbdServer server = Nbdkit("--filter=limit", "memory", "16M", "limit=1");

        InvalidOperationException exception = Assert.Throws<InvalidOperationException>(() => Mount(server.Uri));

        Assert.Contains("use one connection (-C 1)", exception.Message);
    }

    [Fact]
    public void Many_requests_are_in_flight_on_one_connection()
    {
        // With 64 reads of 300 ms one after the other this would take 19 s, and more than the limit below.
        NbdServer server = Nbdkit("-t", "64", "--filter=delay", "memory", "16M", "rdelay=300ms");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-C", "1"], Source = [server.Uri] });

        BackgroundProcess fio = Background(
            "fio", "--name=depth", $"--filename={mount.File}", "--rw=read", "--bs=4k", "--direct=1", "--ioengine=libaio",
            "--iodepth=64", "--size=256k", "--allow_file_create=0", $"--output={Folder.FileAt("fio.log")}");

        Assert.Equal(0, fio.WaitForExit(TimeSpan.FromSeconds(10)));
    }

    internal static void CheckConnections(NbdFuseMount mount, NbdkitLog log, int count)
    {
        Assert.Equal(count, log.Connections);

        // From every processor: over io_uring a request uses the connection of the one that its program runs on.
        int processors = Environment.ProcessorCount;
        Tool.Run(
            "fio", "--name=spread", $"--filename={mount.File}", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=libaio",
            "--iodepth=32", "--size=4M", "--allow_file_create=0", "--output=/dev/null", $"--numjobs={processors}",
            $"--cpus_allowed=0-{processors - 1}", "--cpus_allowed_policy=split");

        Dictionary<int, int> reads = [];
        foreach (LoggedCommand command in log.Commands.Where(command => command.Name == "Read"))
        {
            reads[command.Connection] = reads.GetValueOrDefault(command.Connection) + 1;
        }

        Assert.Equal(count, reads.Count);
        Assert.Equal(count, log.Connections);
    }
}

public sealed class ConnectionOverDeviceTests : ConnectionTests
{
    private protected override string Transport => Transports.Device;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(7)]
    public void As_many_connections_as_asked_for_carry_requests(int count)
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "16M", $"logfile={log.Path}");

        CheckConnections(
            Mount(new MountRequest { Options = ["-C", $"{count}"], Source = [server.Uri] }), log, count);
    }

    [Fact]
    public void A_captive_server_gets_as_many_connections_too()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));

        CheckConnections(
            Mount(new MountRequest
            {
                Options = ["--connections", "3"],
                Source = ["--socket-activation", "nbdkit", "--filter=log", "memory", "16M", $"logfile={log.Path}"],
            }),
            log,
            3);
    }
}

public sealed class ConnectionOverUringTests : ConnectionTests
{
    private protected override string Transport => Transports.Uring;

    [Fact]
    public void Each_processor_has_its_connection()
    {
        int count = Environment.ProcessorCount;
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "16M", $"logfile={log.Path}");

        CheckConnections(
            Mount(new MountRequest { Options = ["-C", $"{count}"], Source = [server.Uri] }), log, count);
    }

    [Fact]
    public void More_connections_than_processors_are_refused()
    {
        NbdServer server = Nbdkit("memory", "16M");
        Folder.Folder("mnt");
        int count = Environment.ProcessorCount + 1;

        (int exitCode, string output) = RunNbdFuse(
            [.. Transports.Options(Transport), "-C", $"{count}", Folder.FileAt("mnt/disk"), server.Uri]);

        Assert.Equal(1, exitCode);
        Assert.Contains($"{count} connections are more than", output);
    }
}

public sealed class ConnectionOverEitherTests : IntegrationTest
{
    [Fact]
    public void More_connections_than_processors_come_over_the_device_and_all_carry_requests()
    {
        int count = Environment.ProcessorCount + 1;
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "16M", $"logfile={log.Path}");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-v", "-C", $"{count}"], Source = [server.Uri] });

        ConnectionTests.CheckConnections(mount, log, count);

        if (Transports.IsUringEnabled)
        {
            Assert.Contains($"{count} connections are more than", mount.Log);
        }
    }
}
