using System.Net;
using System.Net.Sockets;
using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>A server process that a test started, on a Unix socket or on a TCP port of localhost.</summary>
internal sealed class NbdServer : IDisposable
{
    private string? _configuration;

    private NbdServer(BackgroundProcess process, string socket, int port)
    {
        Process = process;
        Socket = socket;
        Port = port;
    }

    public BackgroundProcess Process { get; }

    /// <summary>Path of the Unix socket; empty when the server listens on TCP.</summary>
    public string Socket { get; }

    /// <summary>TCP port; 0 when the server listens on a Unix socket.</summary>
    public int Port { get; }

    /// <summary>The URI of one export.</summary>
    public string UriOf(string export) => Uri.Replace(":///", $":///{export}", StringComparison.Ordinal);

    public string Uri => Socket.Length > 0 ? $"nbd+unix:///?socket={Socket}" : $"nbd://localhost:{Port}";

    /// <summary>nbdkit on a Unix socket; the arguments name filters, plugin and parameters.</summary>
    public static NbdServer Nbdkit(TestDirectory directory, params string[] arguments)
    {
        string name = NewName();
        string socket = directory.FileAt($"{name}.sock");
        string pidFile = directory.FileAt($"{name}.pid");
        BackgroundProcess process = BackgroundProcess.Start("nbdkit", ["-f", "-U", socket, "-P", pidFile, .. arguments], directory.Path);
        return Ready(new(process, socket, 0), () => File.Exists(pidFile));
    }

    /// <summary>Our own server on a Unix socket; the arguments name the backend and options.</summary>
    public static NbdServer NbdServe(TestDirectory directory, params string[] arguments)
    {
        string name = NewName();
        string socket = directory.FileAt($"{name}.sock");
        string pidFile = directory.FileAt($"{name}.pid");
        BackgroundProcess process = BackgroundProcess.Start(
            Repository.NbdServe, ["--unix", socket, "--pidfile", pidFile, .. arguments], directory.Temporary);
        return Ready(new(process, socket, 0), () => File.Exists(pidFile));
    }

    /// <summary>nbdkit on a TCP port of localhost.</summary>
    public static NbdServer NbdkitTcp(TestDirectory directory, params string[] arguments)
    {
        int port = FreePort();
        string pidFile = directory.FileAt($"{NewName()}.pid");
        BackgroundProcess process =
            BackgroundProcess.Start("nbdkit", ["-f", "-i", "localhost", "-p", $"{port}", "-P", pidFile, .. arguments], directory.Path);
        return Ready(new(process, "", port), () => File.Exists(pidFile));
    }

    /// <summary>qemu-nbd on a Unix socket, for any number of clients one after the other.</summary>
    public static NbdServer QemuNbd(TestDirectory directory, params string[] arguments)
    {
        string name = NewName();
        string socket = directory.FileAt($"{name}.sock");
        string pidFile = directory.FileAt($"{name}.pid");
        BackgroundProcess process =
            BackgroundProcess.Start("qemu-nbd", ["-t", "-k", socket, "--pid-file", pidFile, .. arguments], directory.Path);
        return Ready(new(process, socket, 0), () => File.Exists(pidFile));
    }

    /// <summary>
    /// qemu-storage-daemon on a Unix socket; the arguments name block devices and exports.
    /// </summary>
    /// <param name="directory">Where its files are.</param>
    /// <param name="credentials">The TLS object of the server, without an id; null: no TLS.</param>
    /// <param name="arguments">Options; an export after the block device that it shows.</param>
    public static NbdServer QemuStorageDaemon(TestDirectory directory, string? credentials, params string[] arguments)
    {
        string name = NewName();
        string socket = directory.FileAt($"{name}.sock");
        string pidFile = directory.FileAt($"{name}.pid");
        string listen = $"addr.type=unix,addr.path={socket}";
        string[] server = credentials is null
            ? ["--nbd-server", listen]
            : ["--object", $"{credentials},id=tls0", "--nbd-server", $"{listen},tls-creds=tls0"];
        BackgroundProcess process = BackgroundProcess.Start(
            "qemu-storage-daemon", ["--pidfile", pidFile, .. server, .. arguments], directory.Path);
        return Ready(new(process, socket, 0), () => File.Exists(pidFile));
    }

    /// <summary>nbd-server (the reference implementation) with one export, a raw file.</summary>
    public static NbdServer Reference(TestDirectory directory, string exportName, string image, string more = "", string general = "")
    {
        int port = FreePort();
        string configuration = directory.FileAt("nbd-server.conf");
        File.WriteAllText(
            configuration,
            $"[generic]\nport = {port}\nlistenaddr = 127.0.0.1\nallowlist = true\n{general}\n[{exportName}]\nexportname = {image}\n{more}\n");
        // It forks into the background, and once more for each client.
        BackgroundProcess process = BackgroundProcess.Start(
            "nbd-server", ["-C", configuration, "-p", directory.FileAt("nbd-server.pid")], directory.Path);
        Wait.Until(() => IsListening(port), $"the server is ready: {process}");
        return new(process, "", port) { _configuration = configuration };
    }

    /// <summary>Sends a signal; SIGSTOP holds when this returns.</summary>
    public void Signal(int signal)
    {
        Process.Signal(signal);
        if (signal == LibC.SIGSTOP)
        {
            Wait.Until(() => Process.HasExited || ProcessTable.IsStopped(Process.Id), $"{Process} is stopped");
        }
    }

    /// <summary>Kills the server as a power cut would.</summary>
    public void Kill()
    {
        Process.Signal(LibC.SIGKILL);
        Process.WaitForExit();
    }

    public void Dispose()
    {
        Process.Signal(LibC.SIGCONT);
        Process.Dispose();
        if (_configuration is not null)
        {
            foreach (int id in ProcessTable.Mentioning(_configuration).Keys)
            {
                _ = LibC.kill(id, LibC.SIGKILL);
            }
        }
    }

    /// <summary>A port that nobody listens on now.</summary>
    public static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static NbdServer Ready(NbdServer server, Func<bool> isReady)
    {
        Wait.Until(() => isReady() || server.Process.HasExited, $"the server is ready: {server.Process}");
        if (server.Process.HasExited)
        {
            server.Process.WaitForExit();
            throw new InvalidOperationException($"the server ended at once: {server.Process}");
        }

        return server;
    }

    private static bool IsListening(int port) =>
        File.ReadLines("/proc/net/tcp").Any(line => line.Contains($":{port:X4} 00000000:0000 0A ", StringComparison.Ordinal));

    private static string NewName() => $"server-{Guid.NewGuid():N}"[..15];
}
