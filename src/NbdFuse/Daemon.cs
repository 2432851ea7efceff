using Fuse;
using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// The life of the daemon. Start: connect, mount, negotiate with the kernel, serve, tell that the file is ready.
/// Stop: unmount while still serving, FLUSH, disconnect, wait for a captive server.
/// </summary>
internal sealed class Daemon
{
    private const int ReadAheadKibibytes = 1024;

    // Everything is over within these times, also when the server hangs: what is then unanswered fails with EIO.
    // Without a signal the last FLUSH gets as long as a slow disk may need, because a signal can still end the wait.
    private static readonly TimeSpan s_drainTime = TimeSpan.FromSeconds(2.5);
    private static readonly TimeSpan s_pushTime = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_closeTimeAfterSignal = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_flushTime = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan s_closeTime = TimeSpan.FromSeconds(30);

    private readonly Invocation _invocation;
    private readonly Log _log;
    private readonly StopSignals _signals;
    private readonly MountTarget _target;
    private readonly PidFile? _pidFile;
    private readonly ExportPools _pools;
    private readonly RingSet? _rings;
    private readonly BlockMemory? _blocks;
    private FuseMount _mount = null!;
    private FuseSession _session = null!;
    private ExportFileSystem _fileSystem = null!;

    // Of the mount of one export.
    private ExportFile? _file;

    private Daemon(
        Invocation invocation,
        Log log,
        StopSignals signals,
        MountTarget target,
        PidFile? pidFile,
        RingSet? rings,
        ExportPools pools)
    {
        (_invocation, _log, _signals, _target, _pidFile) = (invocation, log, signals, target, pidFile);
        (_rings, _pools) = (rings, pools);
        _blocks = invocation.ReadAheadBytes > 0 ? new BlockMemory(2 * invocation.ReadAheadBytes) : null;
    }

    /// <summary>Serves the export until it is unmounted or a signal comes.</summary>
    /// <returns>The exit status.</returns>
    internal static int Run(Invocation invocation, Log log)
    {
        using StopSignals signals = new();
        MountTarget target = MountTarget.Resolve(invocation.Mountpoint, log.Write);
        CheckTarget(invocation, target);
        if (invocation.Fuse is { AutoUnmount: true, AllowOther: false, AllowRoot: false } && LibC.geteuid() != 0)
        {
            // fusermount3, set-user-id root, looks whether the mount is dead, and may not look into this one.
            log.Write("-o auto_unmount has no effect for an ordinary user without -o allow_other");
        }

        using PidFile? pidFile = invocation.PidFile is string path ? PidFile.Prepare(path) : null;
        using RingSet? rings = RequestTransports.MakeRings(invocation, log);
        using ExportPools pools = new();
        try
        {
            Daemon daemon = new(invocation, log, signals, target, pidFile, rings, pools);
            return invocation.All ? daemon.RunAll() : daemon.RunOne();
        }
        catch (OperationCanceledException) when (signals.Token.IsCancellationRequested)
        {
            // Before there was a mount.
            return 0;
        }
        catch (NbdException exception) when (OptionHint(exception, invocation.Client) is string hint)
        {
            throw new NbdException($"{exception.Message} ({hint})", exception.Errno, exception);
        }
    }

    /// <summary>Which of our options is about a failure to connect: the library does not know them.</summary>
    private static string? OptionHint(NbdException failure, NbdClientOptions options) => failure switch
    {
        { RequiresTls: true } => "without a URI: --tls=require",
        { SuggestsOneConnection: true } => "-C 1",
        { Errno: Errno.ETIMEDOUT } => $"--connect-timeout is {options.ConnectTimeout.TotalSeconds} s",
        _ => null,
    };

    private static void CheckTarget(Invocation invocation, MountTarget target)
    {
        if (invocation.Partitions && target.FileName is null)
        {
            throw new UsageException(
                $"{invocation.Mountpoint}: --partitions needs a directory to mount over, not a file");
        }

        if (invocation.All && !Directory.Exists(invocation.Mountpoint))
        {
            throw new UsageException($"{invocation.Mountpoint}: --all needs a directory to mount over");
        }
    }

    /// <summary>One export.</summary>
    private int RunOne()
    {
        NbdConnectionPool pool = NbdConnectionPool.Connect(
            _invocation.Endpoint, _invocation.ExportName, _invocation.Client with { Rings = _rings }, _signals.Token);
        _ = _pools.TryAdd(pool);
        _log.Verbose(Describe(pool));
        if (_rings is not null && !pool.UsesRings)
        {
            RequestTransports.Refuse(
                _invocation.Transport == RequestTransport.Uring,
                _log,
                pool.IsEncrypted
                    ? "the connections are encrypted"
                    : $"{pool.ConnectionCount} connections are more than {Environment.ProcessorCount} processors (-C)");
        }

        ExportFileOptions options = ExportFileOptions.From(
            _invocation,
            _target.FileName,
            _invocation.ReadOnly || _invocation.Fuse.ReadOnly || pool.Export.IsReadOnly,
            keepCache: pool.IsCaptive);
        ExportFile file = new(pool, options, _log.Write, _log.Verbose, _blocks);
        _file = file;
        LossReport losses = new(_log.Write, TimeProvider.System);
        pool.ConnectionLost = reason =>
        {
            file.ForgetAll();
            losses.Tell(reason);
        };
        pool.ServerError =
            new ServerErrorReport($"{pool.Endpoint}", _log.Write, _log.Verbose, TimeProvider.System).Tell;
        FileTree tree = _invocation.Partitions
            ? new PartitionedTree(file, options, _log.Write)
            : new SingleFileTree(file, options);
        return Mount(
            tree, pool.Endpoint.FormatUri(pool.Export.Name, pool.IsEncrypted), options.ReadOnly, pool.UsesRings ? _rings : null);
    }

    /// <summary>All exports of a server.</summary>
    private int RunAll()
    {
        using ExportServer server = ExportServer.Start(_invocation.Endpoint, _invocation.Client);
        bool isReadOnly = _invocation.ReadOnly || _invocation.Fuse.ReadOnly;
        ExportFileOptions options = ExportFileOptions.From(_invocation, fileName: null, isReadOnly, keepCache: false);
        ExportConnector connector = new(_invocation, server, _pools, _blocks, _log.Write, _log.Verbose);
        FileTree tree = ExportsTree.Create(server, connector, options, _log.Write, _signals.Token)
            .GetAwaiter().GetResult();
        int status = Mount(tree, server.UriOf(""), isReadOnly, rings: null);
        server.Stop(_signals.Received.WaitOne(0) ? s_closeTimeAfterSignal : s_closeTime);
        return status;
    }

    private int Mount(FileTree tree, string source, bool isReadOnly, RingSet? rings)
    {
        using FuseMount mount = FuseMount.Create(_target.Mountpoint, MountOptions(_invocation, source, isReadOnly));
        uint? onlyUserId = _invocation.Fuse.AllowRoot ? LibC.getuid() : null;
        using ExportFileSystem fileSystem = new(tree, onlyUserId);
        using FuseSession session = new(mount, fileSystem, SessionOptions(_invocation, rings, _log));
        (_mount, _session, _fileSystem) = (mount, session, fileSystem);
        return Serve(_target, _pidFile);
    }

    private int Serve(MountTarget target, PidFile? pidFile)
    {
        try
        {
            _session.Initialize();
            _fileSystem.Attach(_session, target.FilePath, _mount.Mountpoint, _mount.DeviceNumber);
            _session.Start();
            TellTransport();
            if (_mount.TrySetReadAhead(ReadAheadKibibytes))
            {
                _log.Verbose($"the kernel reads ahead {ReadAheadKibibytes} KiB");
            }

            pidFile?.Publish();
        }
        catch
        {
            _mount.Unmount(lazy: true);
            throw;
        }

        _signals.StatisticsAskedFor = WriteStatistics;
        _log.Verbose($"{target.FilePath} is ready");
        _ = WaitHandle.WaitAny([_signals.Received, _session.Ended]);
        return Stop();
    }

    private void TellTransport()
    {
        if (_session.IsUring)
        {
            _log.Verbose($"requests come through {_session.Transport}");
        }
        else if (_session.UringRefusal is string reason)
        {
            RequestTransports.Refuse(_invocation.Transport == RequestTransport.Uring, _log, reason);
        }
    }

    private int Stop()
    {
        bool isSignal = _signals.Received.WaitOne(0);
        UnmountWhileServing();
        if (_session.Fault is Exception fault)
        {
            _log.Write($"{_mount.Mountpoint}: {fault.Message}; it is unmounted");
        }

        // From here on a signal (another one, or the first) shortens the wait.
        using CancellationTokenRegistration impatience = _signals.Token.Register(
            () => _ = Task.Delay(s_closeTimeAfterSignal).ContinueWith(
                _ => _pools.Abort("given up at exit"),
                TaskScheduler.Default));
        Errno flushed = isSignal
            ? _pools.Close(s_closeTimeAfterSignal, s_closeTimeAfterSignal)
            : _pools.Close(s_flushTime, s_closeTime);
        if (flushed != Errno.None)
        {
            _log.Write(
                $"{_invocation.Endpoint}: flush at exit: {LinuxException.Describe(flushed)}; "
                + "what was written last may not be on stable storage");
        }

        return flushed == Errno.None && _session.Fault is null ? 0 : 1;
    }

    /// <summary>
    /// Takes the mount away, unless somebody did. The kernel writes back dirty pages through us while it unmounts, so
    /// the workers still run, and the unmount has a thread of its own. With files open it is lazy: requests in flight
    /// are answered, new ones get ENOTCONN, as all do once the device is closed.
    /// </summary>
    private void UnmountWhileServing()
    {
        Thread unmount = new(Unmount) { Name = "unmount", IsBackground = true };
        unmount.Start();
        Deadline drained = Deadline.After(s_drainTime);
        bool isAnswered = unmount.Join(drained.RemainingMilliseconds);
        _session.RefuseRequests(Errno.ENOTCONN);
        isAnswered = isAnswered && SpinWait.SpinUntil(() => _session.InFlight == 0, drained.RemainingMilliseconds);
        if (!isAnswered)
        {
            int failed = _session.FailPending(Errno.EIO);
            if (failed > 0)
            {
                _log.Write(
                    $"{_invocation.Endpoint}: the server did not answer {failed} requests in time; they fail with EIO");
            }

            _pools.Abort("given up at exit");
            _ = unmount.Join(s_closeTimeAfterSignal);
        }
    }

    private void Unmount()
    {
        try
        {
            try
            {
                _mount.Unmount(lazy: false);
            }
            catch (Exception exception) when (exception is LinuxException or FuseException)
            {
                PushWhatIsCached();
                _mount.Unmount(lazy: true);
            }
        }
        catch (Exception exception) when (exception is LinuxException or FuseException)
        {
            _log.Write($"unmount {_mount.Mountpoint}: {exception.Message}");
        }
    }

    /// <summary>
    /// Programs still use the mount: what they changed and the kernel has not sent yet would be lost with it.
    /// </summary>
    private void PushWhatIsCached()
    {
        if (_mount.DeviceNumber is string device && !_session.Ended.WaitOne(0)
            && !CachePush.Start(_mount.Mountpoint, _fileSystem.OpenFiles(), device, s_pushTime))
        {
            _log.Write($"{_mount.Mountpoint}: what programs that use it changed last may not be at the server");
        }
    }

    private void WriteStatistics() => _log.Write(
        $"statistics: requests={_session.RequestsServed} allocated_bytes={GC.GetTotalAllocatedBytes()} "
        + $"in_flight={_session.InFlight} request_objects={_session.RequestsAllocated} "
        + $"connections={_pools.ConnectionCount} commands_in_flight={_pools.InFlight} "
        + $"transport={(_session.IsUring ? "uring" : "device")} "
        + $"reads_answered_ahead={_file?.ReadsAnsweredAhead ?? 0} read_ahead_bytes={_blocks?.TouchedBytes ?? 0}");

    private static string Describe(NbdConnectionPool pool) =>
        $"{pool.Endpoint}: export '{pool.Export.Name}', {pool.Export.SizeBytes} bytes, {pool.Export.Flags}, "
        + $"block sizes {pool.Export.MinimumBlockBytes}/{pool.Export.PreferredBlockBytes}/"
        + $"{pool.Export.MaximumPayloadBytes}, {pool.ConnectionCount} connections";

    private static FuseMountOptions MountOptions(
        Invocation invocation, string source, bool isReadOnly) => new()
        {
            Source = invocation.Fuse.Source ?? source,
            Subtype = invocation.Fuse.Subtype,
            ReadOnly = isReadOnly,
            AllowOther = invocation.Fuse.AllowOther || invocation.Fuse.AllowRoot,
            AutoUnmount = invocation.Fuse.AutoUnmount,
            MaxReadBytes = invocation.Fuse.MaxReadBytes,
            Flags = invocation.Fuse.MountFlags,
        };

    private static FuseSessionOptions SessionOptions(Invocation invocation, RingSet? rings, Log log) => new()
    {
        Workers = invocation.SingleThreaded ? 1 : invocation.Fuse.Workers,
        CloneDevice = invocation.Fuse.CloneDevice,
        WritebackCache = invocation.Cache == CacheMode.Writeback,
        Rings = rings,
        Trace = invocation.Debug || invocation.Fuse.Debug ? log.Write : null,
        Warn = log.Write,
    };
}
