using Tmds.Linux;

namespace IntegrationTests;

/// <summary>Each way to name a server. nbdkit's info plugin serves the name of the export as the export's content.</summary>
public sealed class SourceTests : IntegrationTest
{
    private static readonly string s_name = "disk 1/ü?&#100%";

    [Fact]
    public void A_unix_uri_names_the_server()
    {
        NbdServer server = Nbdkit("pattern", "1M");

        NbdFuseMount mount = Mount(server.Uri);

        Assert.Equal(Data.Pattern(0, 1 << 20), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void The_option_uri_is_the_same_as_a_plain_uri()
    {
        NbdServer server = Nbdkit("pattern", "64K");

        NbdFuseMount mount = Mount("--uri", server.Uri);

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void A_tcp_uri_names_the_server()
    {
        NbdServer server = NbdkitTcp("pattern", "64K");

        NbdFuseMount mount = Mount(server.Uri);

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void An_IPv6_address_in_a_uri_stands_in_brackets()
    {
        int port = NbdServer.FreePort();
        string pidFile = Folder.FileAt("nbdkit.pid");
        Background("nbdkit", "-f", "-i", "::1", "-p", $"{port}", "-P", pidFile, "pattern", "64K");
        Wait.Until(() => File.Exists(pidFile), "nbdkit listens on ::1");

        NbdFuseMount mount = Mount($"nbd://[::1]:{port}/");

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void The_export_name_in_a_tcp_uri_is_percent_decoded()
    {
        NbdServer server = NbdkitTcp("info", "exportname");

        NbdFuseMount mount = Mount($"{server.Uri}/{Uri.EscapeDataString(s_name)}");

        Assert.Equal(s_name, File.ReadAllText(mount.File));
    }

    [Fact]
    public void The_export_name_and_the_socket_in_a_unix_uri_are_percent_decoded()
    {
        string socket = Path.Combine(Folder.Folder("a folder &+%"), "s");
        string pidFile = Folder.FileAt("nbdkit.pid");
        Background("nbdkit", "-f", "-U", socket, "-P", pidFile, "info", "exportname");
        Wait.Until(() => File.Exists(pidFile), "nbdkit listens");

        NbdFuseMount mount =
            Mount($"nbd+unix:///{Uri.EscapeDataString(s_name)}?socket={Uri.EscapeDataString(socket)}");

        Assert.Equal(s_name, File.ReadAllText(mount.File));
    }

    [Fact]
    public void Host_and_port_name_the_server()
    {
        NbdServer server = NbdkitTcp("pattern", "64K");

        NbdFuseMount mount = Mount("--tcp", "localhost", $"{server.Port}");

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void A_unix_socket_names_the_server()
    {
        NbdServer server = Nbdkit("pattern", "64K");

        NbdFuseMount mount = Mount("--unix", server.Socket);

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void A_connected_socket_can_be_inherited()
    {
        NbdServer server = NbdkitTcp("pattern", "64K");
        string file = Folder.FileAt("disk");
        File.WriteAllText(file, "");
        string pidFile = Folder.FileAt("nbdfuse.pid");
        BackgroundProcess nbdfuse = Background(
            "bash",
            "-c",
            "exec 5<>/dev/tcp/127.0.0.1/$1; exec \"$2\" -P \"$3\" \"$4\" --fd 5",
            "bash",
            $"{server.Port}",
            Repository.NbdFuse,
            pidFile,
            file);
        Wait.Until(() => nbdfuse.HasExited || File.Exists(pidFile), "nbdfuse is ready");

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(file));

        MountTable.Unmount(file);
        Assert.Equal(0, nbdfuse.WaitForExit());
    }

    [Fact]
    public void The_option_export_names_an_export_at_a_unix_socket()
    {
        NbdServer server = Nbdkit("info", "exportname");

        NbdFuseMount mount = Mount(new MountRequest { Options = ["--export", s_name], Source = ["--unix", server.Socket] });

        Assert.Equal(s_name, File.ReadAllText(mount.File));
    }

    [Fact]
    public void The_option_export_names_an_export_at_a_tcp_port()
    {
        NbdServer server = NbdkitTcp("info", "exportname");

        NbdFuseMount mount =
            Mount(new MountRequest { Options = ["--export", s_name], Source = ["--tcp", "localhost", $"{server.Port}"] });

        Assert.Equal(s_name, File.ReadAllText(mount.File));
    }

    [Fact]
    public void The_option_export_names_an_export_of_a_captive_server()
    {
        NbdFuseMount mount = Mount(new MountRequest
        {
            Options = ["--export", s_name],
            Source = ["--command", "nbdkit", "-s", "-P", Folder.FileAt("nbdkit.pid"), "info", "exportname"],
        });

        Assert.Equal(s_name, File.ReadAllText(mount.File));
    }

    [Fact]
    public void An_export_that_does_not_exist_is_an_error_that_names_those_that_do()
    {
        File.WriteAllBytes(Folder.FileAt("image"), new byte[65536]);
        NbdServer server = QemuNbd("-f", "raw", "-x", "first", Folder.FileAt("image"));

        (int exitCode, string output) =
            RunNbdFuse(Folder.Folder("mnt"), $"nbd+unix:///second?socket={server.Socket}");

        Assert.Equal(1, exitCode);
        Assert.Contains("second", output);
        Assert.Contains("first", output);
        Assert.False(MountTable.IsMounted(Folder.FileAt("mnt")));
    }

    [Fact]
    public void A_server_that_is_not_there_is_one_line_that_names_it()
    {
        string socket = Folder.FileAt("nobody.sock");

        (int exitCode, string output) = RunNbdFuse(Folder.Folder("mnt"), "--unix", socket);

        Assert.Equal(1, exitCode);
        Assert.Contains(socket, Assert.Single(output.TrimEnd().Split('\n')));
        Assert.StartsWith("nbdfuse: ", output);
    }

    [Fact]
    public void A_silent_server_is_an_error_after_the_connect_timeout()
    {
        NbdServer server = Nbdkit("memory", "1M");
        server.Signal(LibC.SIGSTOP);

        (int exitCode, string output) =
            RunNbdFuse("--connect-timeout", "1", Folder.Folder("mnt"), "--unix", server.Socket);

        Assert.Equal(1, exitCode);
        Assert.Contains(server.Socket, Assert.Single(output.TrimEnd().Split('\n')));
        Assert.False(MountTable.IsMounted(Folder.FileAt("mnt")));
    }
}
