namespace IntegrationTests;

/// <summary>How many connections are opened, and that all of them work.</summary>
public sealed class ConnectionTests : IntegrationTest
{
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

    [Fact]
    public void The_default_depends_on_the_processors_and_is_at_most_4()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "16M", $"logfile={log.Path}");

        CheckConnections(Mount(server.Uri), log, Math.Min(4, Math.Max(2, Environment.ProcessorCount / 2)));
    }

    [Fact]
    public void A_server_without_multi_conn_gets_one_connection()
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit(
            "--filter=log", "--filter=multi-conn", "memory", "16M", "multi-conn-mode=disable", $"logfile={log.Path}");

        CheckConnections(Mount(new MountRequest { Options = ["-C", "4"], Source = [server.Uri] }), log, 1);
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

    private static void CheckConnections(NbdFuseMount mount, NbdkitLog log, int count)
    {
        Assert.Equal(count, log.Connections);

        Tool.Run(
            "fio", "--name=spread", $"--filename={mount.File}", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=libaio",
            "--iodepth=32", "--size=4M", "--allow_file_create=0", "--output=/dev/null");

        Dictionary<int, int> reads = [];
        foreach (LoggedCommand command in log.Commands.Where(command => command.Name == "Read"))
        {
            reads[command.Connection] = reads.GetValueOrDefault(command.Connection) + 1;
        }

        Assert.Equal(count, reads.Count);
        Assert.Equal(count, log.Connections);
    }
}
