using Tmds.Linux;

namespace IntegrationTests.NbdServeTests;

/// <summary>The units that the project ships, in a real systemd.</summary>
public sealed class SystemdTests : IntegrationTest
{
    private const string Service = "nbdserve@disk.service";
    private const string Socket = "nbdserve@disk.socket";
    private const string Uri = "nbd+unix:///?socket=/run/nbdserve/disk.sock";

    private string Image => Folder.FileAt("image");

    [Fact]
    public void A_client_starts_the_service_and_what_it_wrote_outlives_that()
    {
        File.WriteAllBytes(Image, new byte[1 << 20]);
        using SystemdManager systemd = Start($"file \"{Image}\"");
        systemd.Run("systemctl", "start", Socket);
        Assert.Equal("inactive", systemd.Show(Service, "ActiveState"));

        systemd.Run("qemu-io", "-f", "raw", "-c", "write -P 7 64k 64k", Uri);

        Assert.Equal("active", systemd.Show(Service, "ActiveState"));
        systemd.Run("systemctl", "stop", Service);
        Assert.Equal("success 0", $"{systemd.Show(Service, "Result")} {systemd.Show(Service, "ExecMainStatus")}");
        Assert.Equal("active", systemd.Show(Socket, "ActiveState"));
        Assert.Equal(Data.Filled(65536, 7), File.ReadAllBytes(Image)[65536..131072]);

        // The next client finds it again.
        systemd.Run("qemu-io", "-f", "raw", "-c", "read -P 7 64k 64k", "-c", "read -P 0 0 64k", Uri);
        systemd.Run("systemctl", "stop", Socket, Service);
        Assert.NotEqual(0, systemd.Try("test", "-e", "/run/nbdserve/disk.sock").ExitCode);
    }

    [Fact]
    public void A_client_that_stays_does_not_hinder_the_stop()
    {
        using SystemdManager systemd = Start("memory 1M");
        systemd.Run("systemctl", "start", Socket);
        systemd.Run(
            "systemd-run", "--unit=client", "/usr/bin/python3", "-c",
            "import nbd, time\nh = nbd.NBD()\n"
            + $"h.connect_uri('{Uri}')\nopen('/run/connected', 'w').close()\ntime.sleep(1000)");
        Wait.Until(() => systemd.Try("test", "-e", "/run/connected").ExitCode == 0, "the client is connected");

        systemd.Run("systemctl", "stop", Socket, Service);

        Assert.Equal("success 0", $"{systemd.Show(Service, "Result")} {systemd.Show(Service, "ExecMainStatus")}");
    }

    [Fact]
    public void A_service_that_cannot_serve_fails_and_says_why()
    {
        using SystemdManager systemd = Start("file /nonexistent/disk");
        systemd.Run("systemctl", "start", Socket);

        Assert.NotEqual(0, systemd.Try("nbdinfo", Uri).ExitCode);

        Wait.Until(() => systemd.Show(Service, "ActiveState") == "failed", "the service has failed");
        Assert.Equal("exit-code 1", $"{systemd.Show(Service, "Result")} {systemd.Show(Service, "ExecMainStatus")}");
    }

    [Fact]
    public void The_units_have_no_errors()
    {
        using SystemdManager systemd = Start("null 1M");

        // It wants to write to /tmp.
        Assert.Equal("", systemd.Run(
            "unshare", "--mount", "sh", "-c", $"mount -t tmpfs tmpfs /tmp && exec systemd-analyze verify --man=no {Service} {Socket}"));
    }

    [Fact]
    public void Systemd_hands_over_its_socket()
    {
        int port = NbdServer.FreePort();
        using BackgroundProcess activator = BackgroundProcess.Start(
            "systemd-socket-activate", ["-l", $"127.0.0.1:{port}", Repository.NbdServe, "memory", "1M"], Folder.Temporary);
        Wait.Until(() => activator.Log.Contains("Listening", StringComparison.Ordinal), $"it listens: {activator}");

        // The same process becomes nbdserve with the first client.
        Assert.Equal("1048576", Tool.Run("nbdinfo", "--size", $"nbd://127.0.0.1:{port}").Trim());
        Assert.Equal("1048576", Tool.Run("nbdinfo", "--size", $"nbd://127.0.0.1:{port}").Trim());
        activator.Signal(LibC.SIGTERM);
        Assert.Equal(0, activator.WaitForExit());
    }

    [Theory]
    [InlineData("</dev/null", "memory 1M")]
    [InlineData("<&-", "memory 1M")]
    [InlineData("</dev/null", "memory 1M --tcp 0")]
    public void What_is_no_listening_socket_is_one_line(string descriptor, string arguments)
    {
        (int exitCode, string output) = Tool.Try(
            "sh", "-c", $"LISTEN_PID=$$ LISTEN_FDS=1 exec {Repository.NbdServe} {arguments} 3{descriptor}");

        Assert.Equal(1, exitCode);
        Assert.StartsWith("nbdserve: ", Assert.Single(output.TrimEnd('\n').Split('\n')));
    }

    private SystemdManager Start(string arguments)
    {
        string configurations = Folder.Folder("etc");
        File.WriteAllText(Path.Combine(configurations, "disk.conf"), $"NBDSERVE={arguments}\n");
        return SystemdManager.Start(Folder.Path, configurations);
    }
}
