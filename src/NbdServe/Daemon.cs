using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdServe;

/// <summary>
/// The life of the server. Start: open the exports, listen, tell that clients can connect. Stop, on a signal, at the
/// end of the command of --run or of the client of -s: accept no more, finish what is in flight, flush.
/// </summary>
internal sealed class Daemon(Invocation invocation, Log log)
{
    // Of the time that StopLimit leaves: then requests are cut off, which may take a second, and then is the last flush.
    private static readonly TimeSpan s_grace = TimeSpan.FromSeconds(3);

    // The thread of each connection takes 8 KiB of the youngest generation, whose budget is that of the processor's
    // cache: 10,000 connections would look like a leak of 80 MB. A collection takes less than a millisecond.
    private const int ConnectionsPerCollection = 256;

    // Calls that wait for a disk: as many at a time as there may be requests.
    private const int BlockingThreads = 32;

    private int _connectionsEnded;

    /// <summary>Serves until it is to end.</summary>
    /// <returns>The exit status.</returns>
    internal int Run()
    {
        int parentId = (int)LibC.getppid();
        using StopSignals signals = new();
        if (invocation.ExitWithParent)
        {
            ParentProcess.SignalAtEnd(LibC.SIGTERM, parentId);
        }

        ThreadPool.GetMinThreads(out _, out int completionThreads);
        ThreadPool.SetMinThreads(BlockingThreads, completionThreads);
        using PidFile? pidFile = invocation.PidFile is string path ? PidFile.Prepare(path) : null;
        using StopLimit limit = new(signals.Received, step => GiveUp(step, pidFile));
        using ExportTable exports = new(invocation.Exports, invocation.ReadOnly);
        NbdServer server = new(Options(exports));
        int status;
        try
        {
            using Listening listening = Listening.Begin(server, invocation);
            server.Start();
            exports.Keep();
            pidFile?.Publish();
            signals.StatisticsAskedFor = () => WriteStatistics(server);
            limit.Step = "ending the requests";
            status = Serve(server, exports, listening, signals);
        }
        finally
        {
            if (!server.StopAsync(s_grace).GetAwaiter().GetResult())
            {
                limit.GiveUp();
            }
        }

        limit.Step = "flushing";
        exports.Flush();
        limit.Step = "closing";
        return status;
    }

    /// <summary>A backend hangs. The sockets are gone already.</summary>
    private void GiveUp(string step, PidFile? pidFile)
    {
        log.Write($"{step} took too long: the disk hangs, and what was written last may not be on it");
        pidFile?.Dispose();
        Environment.Exit(1);
    }

    private int Serve(NbdServer server, ExportTable exports, Listening listening, StopSignals signals)
    {
        string? uri = listening.Uri(exports.DefaultName, invocation.Tls == TlsMode.Require);
        if (invocation.StandardStreams)
        {
            Task served = server.ServeAsync(new SafeFd(0), new SafeFd(1));
            _ = WaitHandle.WaitAny([((IAsyncResult)served).AsyncWaitHandle, signals.Received]);
            return 0;
        }

        if (invocation.Run is string command)
        {
            using RunCommand run = RunCommand.Start(command, uri!, listening);
            return run.End(isStopping: WaitHandle.WaitAny([run.Ended, signals.Received]) != 0);
        }

        if (uri is not null)
        {
            Tell(uri);
        }

        log.Verbose($"clients can connect to {uri ?? "the socket that was passed"}");
        signals.Received.WaitOne();
        return 0;
    }

    private static void Tell(string uri)
    {
        try
        {
            Console.Out.WriteLine(uri);
        }
        catch (IOException)
        {
            // Nobody reads it: that is no reason to end.
        }
    }

    private NbdServerOptions Options(ExportTable exports) => new()
    {
        OpenExport = (name, _) => new ValueTask<NbdBackend?>(exports.Open(name)),
        ListExports = _ => new ValueTask<IReadOnlyList<NbdExportDescription>>(exports.List()),
        ReadOnly = invocation.ReadOnly,
        Tls = invocation.TlsCertificates is string folder && invocation.Tls != TlsMode.Off
            ? new NbdServerTls
            {
                CertificateDirectory = folder,
                Require = invocation.Tls == TlsMode.Require,
                VerifyPeer = invocation.TlsVerifyPeer,
            }
            : null,
        Log = log.Write,
        ClientLeft = OnClientLeft,
    };

    private void OnClientLeft(int _)
    {
        if (Interlocked.Increment(ref _connectionsEnded) % ConnectionsPerCollection == 0)
        {
            GC.Collect(0);
        }
    }

    private void WriteStatistics(NbdServer server) => log.Write(
        $"statistics: requests={server.RequestsServed} allocated_bytes={GC.GetTotalAllocatedBytes()} "
        + $"connections={server.ConnectionCount}");
}
