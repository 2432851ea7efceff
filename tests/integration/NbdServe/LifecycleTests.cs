using Tmds.Linux;

namespace IntegrationTests.NbdServeTests;

/// <summary>Start, end, and what goes wrong with them.</summary>
public sealed class LifecycleTests : IntegrationTest
{
    [Theory]
    [InlineData(15)]
    [InlineData(2)]
    public void A_signal_ends_it_well(int signal)
    {
        NbdServer server = NbdServe("memory", "1M");
        using BackgroundProcess client = BackgroundProcess.Start(
            "/usr/bin/python3",
            ["-c", "import nbd, sys\nh = nbd.NBD()\nh.connect_uri(sys.argv[1])\nprint('up', flush=True)\nsys.stdin.read()\n"
                + "import time\ntime.sleep(60)", server.Uri]);
        Wait.Until(() => client.Log.Contains("up", StringComparison.Ordinal), "the client is connected");

        server.Signal(signal);

        Assert.Equal(0, server.Process.WaitForExit());
        Assert.False(File.Exists(server.Socket), "the socket is still there");
        Assert.Empty(Directory.GetFiles(Folder.Path, "*.pid"));
    }

    [Theory]
    [InlineData("exit 0", 0)]
    [InlineData("exit 7", 7)]
    [InlineData("kill -9 $$", 137)]
    [InlineData("test \"$(nbdinfo --size \"$uri\")\" = 1048576", 0)]
    [InlineData("test -S \"$unixsocket\" && test -z \"$port\"", 0)]
    [InlineData("exec nbdinfo \"$uri/no-such-export\" 2>/dev/null", 1)]
    public void Run_ends_with_the_status_of_its_command(string command, int expected)
    {
        (int exitCode, string output) = RunNbdServe("memory", "1M", "--run", command);

        Assert.True(exitCode == expected, $"exit status {exitCode}: {output}");
    }

    [Fact]
    public void Run_over_tcp_has_the_port()
    {
        (int exitCode, string output) = RunNbdServe(
            "memory", "1M", "--tcp", "0", "--export", "a b",
            "--run", "echo $uri; test \"$(nbdinfo --size \"nbd://localhost:$port/a%20b\")\" = 1048576 && nbdinfo --size \"$uri\"");

        Assert.True(exitCode == 0, output);
        Assert.Matches("^nbd://localhost:[0-9]+/a%20b\n1048576\n$", output);
    }

    [Fact]
    public void A_signal_ends_the_command_of_run_too()
    {
        string ready = Folder.FileAt("ready");
        BackgroundProcess server = LaunchNbdServe("memory", "1M", "--run", $"touch {ready}; exec tail -f {ready}");
        Wait.Until(() => File.Exists(ready), "the command runs");

        server.Signal(LibC.SIGTERM);

        Assert.Equal(128 + LibC.SIGTERM, server.WaitForExit());
    }

    [Fact]
    public void Tcp_and_unix_go_together_and_the_uri_is_printed()
    {
        string socket = Folder.FileAt("s");
        int port = NbdServer.FreePort();
        BackgroundProcess server = LaunchNbdServe("null", "1M", "--unix", socket, "--tcp", $"{port}");
        Wait.Until(() => server.Log.Contains("nbd+unix:///?socket=", StringComparison.Ordinal), "the URI is printed");

        Assert.Equal("1048576", Tool.Run("nbdinfo", "--size", $"nbd://localhost:{port}").Trim());
        Assert.Equal("1048576", Tool.Run("nbdinfo", "--size", $"nbd+unix:///?socket={socket}").Trim());
    }

    // In a network of its own, where the port is free. The loopback device of a new network is down: SIOCSIFFLAGS.
    [Fact]
    public void Without_options_it_listens_on_port_10809_of_the_loopback_address()
    {
        const string Script =
            """
            python3 -c 'import fcntl, socket, struct
            fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))' &&
            "$0" memory 1M --verbose --pidfile "$1" | {
                read -r uri
                echo "$uri"
                nbdinfo --size "$uri"
                nbdinfo --size nbd://127.0.0.1:10809
                grep -o '[0-9A-F:]* 00000000:0000 0A' /proc/net/tcp /proc/net/tcp6
                kill "$(cat "$1")"
            }
            """;
        string[] asOrdinaryUser = LibC.geteuid() == 0 ? [] : ["--map-root-user"];
        string output = Tool.Run(
            "unshare", [.. asOrdinaryUser, "--net", "sh", "-c", Script, Repository.NbdServe, Folder.FileAt("pid")]);

        Assert.Equal(
            [
                "/proc/net/tcp:0100007F:2A39 00000000:0000 0A", "1048576", "1048576", "nbd://localhost/",
                "nbdserve: clients can connect to nbd://localhost/",
            ],
            output.TrimEnd().Split('\n').Order(StringComparer.Ordinal));
    }

    [Fact]
    public void A_folder_of_the_pidfile_that_is_gone_by_the_end_is_no_failure()
    {
        string folder = Folder.Folder("run");
        string pidFile = Path.Combine(folder, "pid");
        BackgroundProcess server = LaunchNbdServe("memory", "1M", "--unix", Folder.FileAt("s"), "--pidfile", pidFile);
        Wait.Until(() => server.HasExited || File.Exists(pidFile), "the pidfile is there");
        Directory.Delete(folder, recursive: true);

        server.Signal(LibC.SIGTERM);

        Assert.Equal(0, server.WaitForExit());
        Assert.DoesNotContain("nbdserve: ", server.Log);
    }

    [Fact]
    public void One_client_on_standard_input_and_output_is_served() => Tool.Run(
        "/usr/bin/python3",
        "-c",
        """
        import nbd, sys
        h = nbd.NBD()
        h.connect_command(sys.argv[1:])
        assert h.get_size() == 1048576
        h.pwrite(b'x', 5)
        assert h.pread(1, 5) == b'x'
        h.shutdown()
        """,
        Repository.NbdServe,
        "-s",
        "memory",
        "1M");

    [Fact]
    public void It_ends_with_its_parent()
    {
        string pidFile = Folder.FileAt("pid");
        using BackgroundProcess parent = BackgroundProcess.Start(
            "sh",
            ["-c", $"{Repository.NbdServe} memory 1M --unix {Folder.FileAt("s")} --pidfile {pidFile} --exit-with-parent & exec sleep 60"],
            Folder.Temporary);
        Wait.Until(() => File.Exists(pidFile), $"it is ready: {parent}");
        int id = int.Parse(File.ReadAllText(pidFile), System.Globalization.CultureInfo.InvariantCulture);

        parent.Dispose();

        Wait.Until(() => !ProcessTable.IsAlive(id), "nbdserve has ended");
        Assert.False(File.Exists(pidFile), "the pidfile is still there");
    }

    [Theory]
    [InlineData("memory SIZE", "memory", "1X")]
    [InlineData("unknown backend 'memroy'", "memroy", "1G")]
    [InlineData("no BACKEND")]
    [InlineData("/nonexistent/disk: No such file or directory", "file", "/nonexistent/disk")]
    [InlineData("/nonexistent/pid", "memory", "1M", "--pidfile", "/nonexistent/pid")]
    [InlineData("/nonexistent/socket", "memory", "1M", "--unix", "/nonexistent/socket")]
    [InlineData("/nonexistent", "memory", "1M", "--tcp", "0", "--tls-certificates", "/nonexistent")]
    [InlineData("1: ", "memory", "1M", "--tcp", "192.0.2.1:1")]
    public void What_cannot_be_is_one_line(string words, params string[] arguments)
    {
        CheckRefused(words, arguments);
    }

    [Fact]
    public void A_pipe_is_no_disk_and_is_not_waited_for()
    {
        Tool.Run("mkfifo", Folder.FileAt("pipe"));

        CheckRefused("neither a regular file nor a block device", "file", Folder.FileAt("pipe"), "--readonly");
    }

    [Fact]
    public void A_port_or_socket_in_use_is_one_line_and_the_created_file_goes()
    {
        int port = NbdServer.FreePort();
        string socket = Folder.FileAt("s");
        string image = Folder.FileAt("image");
        BackgroundProcess first = LaunchNbdServe("null", "1M", "--tcp", $"{port}", "--unix", socket);
        Wait.Until(() => first.Log.Length > 0, "the first one is ready");

        CheckRefused("Address already in use", "file", image, "--create", "1M", "--tcp", $"{port}");
        CheckRefused("Address already in use", "file", image, "--create", "1M", "--unix", socket);

        Assert.False(File.Exists(image), "the created file is still there");
        Assert.True(File.Exists(socket), "the socket of the first one is gone");
    }

    [Fact]
    public void Statistics_are_one_line()
    {
        NbdServer server = NbdServe("memory", "1M");
        Tool.Python(server.Uri, "h.pwrite(b'x', 0)\nh.pread(1, 0)\nh.flush()");

        server.Signal(LibC.SIGUSR1);

        Wait.Until(() => server.Process.Log.Contains("statistics: requests=", StringComparison.Ordinal), "statistics");
        Assert.Matches("nbdserve: statistics: requests=[3-9] allocated_bytes=[0-9]+ connections=0", server.Process.Log);
    }

    private void CheckRefused(string words, params string[] arguments)
    {
        (int exitCode, string output) = RunNbdServe(arguments);

        Assert.Equal(1, exitCode);
        string line = Assert.Single(output.TrimEnd('\n').Split('\n'));
        Assert.StartsWith("nbdserve: ", line);
        Assert.Contains(words, line);
        Assert.Empty(Directory.GetFileSystemEntries(Folder.Temporary));
    }
}
