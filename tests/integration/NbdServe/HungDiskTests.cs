using System.Diagnostics;
using Tmds.Linux;

namespace IntegrationTests.NbdServeTests;

/// <summary>
/// The disk of nbdserve is a file whose calls do not return: it lies in a file system whose own server is stopped.
/// A signal ends nbdserve nevertheless, and says why that went wrong.
/// </summary>
public sealed class HungDiskTests : IntegrationTest
{
    // What nbdserve promises (5 s) and some grace for a busy machine.
    private static readonly TimeSpan s_end = TimeSpan.FromSeconds(9);

    // Writes that fill a page are kept by nobody, so that the write itself hangs.
    [Theory]
    [InlineData("h.aio_pread(nbd.Buffer(4096), 0)", "ending the requests")]
    [InlineData("h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b'x' * 4096)), 0)", "ending the requests")]
    [InlineData("h.aio_flush()", "ending the requests")]
    [InlineData("h.aio_zero(1 << 20, 0)", "ending the requests")]
    [InlineData("pass", "took too long")]
    public void A_signal_ends_it(string request, string step)
    {
        NbdServer disk = Nbdkit("memory", "4M");
        NbdFuseMount mount = Mount(disk.Uri);
        NbdServer server = NbdServe("file", mount.File);
        string go = Folder.FileAt("go");
        BackgroundProcess client = Background(
            "/usr/bin/python3", "-c",
            $"""
            import nbd, os, sys, time
            h = nbd.NBD()
            h.connect_uri(sys.argv[1])
            h.pwrite(b'y' * 4096, 8192)
            print('written', flush=True)
            while not os.path.exists(sys.argv[2]): time.sleep(0.01)
            {request}
            h.poll(0)
            print('sent', flush=True)
            time.sleep(60)
            """,
            server.Uri, go);
        Wait.Until(() => client.Log.Contains("written", StringComparison.Ordinal), $"the client writes: {client}");
        disk.Signal(LibC.SIGSTOP);
        File.WriteAllText(go, "");
        Wait.Until(() => client.Log.Contains("sent", StringComparison.Ordinal), $"the client waits: {client}");

        long start = Stopwatch.GetTimestamp();
        server.Signal(LibC.SIGTERM);
        int status = server.Process.WaitForExit(s_end);

        Assert.True(status == 1, $"exit status {status} after {Stopwatch.GetElapsedTime(start)}: {server.Process}");
        Assert.Contains(step, server.Process.Log, StringComparison.Ordinal);
        Assert.Contains("the disk hangs", server.Process.Log, StringComparison.Ordinal);
        Assert.False(File.Exists(server.Socket), "the socket is still there");
        Assert.DoesNotContain(
            Directory.GetFiles(Folder.Path, "*.pid"),
            file => File.ReadAllText(file).Trim() == $"{server.Process.Id}");
        disk.Signal(LibC.SIGCONT);
        client.Signal(LibC.SIGKILL);
        client.WaitForExit();
    }

    [Fact]
    public void A_signal_ends_it_while_it_starts()
    {
        // Who opens a pipe waits for the other end.
        string certificates = Folder.Folder("pki");
        Tool.Run("mkfifo", Path.Combine(certificates, "server-cert.pem"));
        BackgroundProcess server = LaunchNbdServe(
            "memory", "1M", "--unix", Folder.FileAt("s"), "--tls-certificates", certificates);
        Wait.Until(() => ProcessTable.WaitChannel(server.Id).Contains("partner", StringComparison.Ordinal), $"it waits: {server}");

        server.Signal(LibC.SIGTERM);

        Assert.Equal(1, server.WaitForExit(s_end));
        Assert.Contains("starting took too long", server.Log, StringComparison.Ordinal);
    }
}
