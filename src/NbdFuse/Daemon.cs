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
    private static readonly TimeSpan s_closeTimeAfterSignal = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_flushTime = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan s_closeTime = TimeSpan.FromSeconds(30);

    private readonly Invocation _invocation;
    private readonly Log _log;
    private readonly StopSignals _signals;
    private readonly NbdConnectionPool _pool;
    private readonly FuseMount _mount;
    private readonly FuseSession _session;
    private readonly ExportFileSystem _fileSystem;

    private Daemon(
        Invocation invocation,
        Log log,
        StopSignals signals,
        NbdConnectionPool pool,
        FuseMount mount,
        FuseSession session,
        ExportFileSystem fileSystem)
    {
        (_invocation, _log, _signals, _pool) = (invocation, log, signals, pool);
        (_mount, _session, _fileSystem) = (mount, session, fileSystem);
    }

    /// <summary>Serves the export until it is unmounted or a signal comes.</summary>
    /// <returns>The exit status.</returns>
    internal static int Run(Invocation invocation, Log log)
    {
        using StopSignals signals = new();
        MountTarget target = MountTarget.Resolve(invocation.Mountpoint, log.Write);
        using PidFile? pidFile = invocation.PidFile is string path ? PidFile.Prepare(path) : null;
        using NbdConnectionPool? pool = Connect(invocation, signals);
        if (pool is null)
        {
            return 0;
        }

        log.Verbose(Describe(pool));
        pool.ConnectionLost = new LossReport(log).Tell;
        ExportFileOptions options = FileOptions(invocation, pool, target);
        ExportFileSystem fileSystem = new(new ExportFile(pool, options, log.Write), options);
        using FuseMount mount = FuseMount.Create(target.Mountpoint, MountOptions(invocation, pool, options));
        using FuseSession session = new(mount, fileSystem, SessionOptions(invocation, log));
        return new Daemon(invocation, log, signals, pool, mount, session, fileSystem).Serve(target, pidFile);
    }

    private int Serve(MountTarget target, PidFile? pidFile)
    {
        try
        {
            _session.Initialize();
            _fileSystem.Attach(_session, target.FilePath, _mount.DeviceNumber);
            _session.Start();
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
                _ => _pool.Abort(new NbdException($"{_pool.Endpoint}: given up at exit", Errno.ECANCELED)),
                TaskScheduler.Default));
        Errno flushed = isSignal
            ? _pool.Close(s_closeTimeAfterSignal, s_closeTimeAfterSignal)
            : _pool.Close(s_flushTime, s_closeTime);
        if (flushed != Errno.None)
        {
            _log.Write(
                $"{_pool.Endpoint}: flush at exit: {LinuxException.Describe(flushed)}; "
                + "what was written last may not be on stable storage");
        }

        return flushed == Errno.None && _session.Fault is null ? 0 : 1;
    }

    /// <summary>
    /// Takes the mount away, unless somebody did. The kernel writes back dirty pages through us while it unmounts, so
    /// the workers still run, and the unmount has a thread of its own. With files open it is lazy: requests in flight
    /// are answered, then the device is closed and those who still have it open get ENOTCONN.
    /// </summary>
    private void UnmountWhileServing()
    {
        Thread unmount = new(Unmount) { Name = "unmount", IsBackground = true };
        unmount.Start();
        Deadline drained = Deadline.After(s_drainTime);
        bool isAnswered = unmount.Join(drained.RemainingMilliseconds)
            && SpinWait.SpinUntil(() => _session.InFlight == 0, drained.RemainingMilliseconds);
        if (!isAnswered)
        {
            int failed = _session.FailPending(Errno.EIO);
            if (failed > 0)
            {
                _log.Write(
                    $"{_pool.Endpoint}: the server did not answer {failed} requests in time; they fail with EIO");
            }

            _pool.Abort(new NbdException($"{_pool.Endpoint}: given up at exit", Errno.ECANCELED));
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
                _mount.Unmount(lazy: true);
            }
        }
        catch (Exception exception) when (exception is LinuxException or FuseException)
        {
            _log.Write($"unmount {_mount.Mountpoint}: {exception.Message}");
        }
    }

    private void WriteStatistics() => _log.Write(
        $"statistics: requests={_session.RequestsServed} allocated_bytes={GC.GetTotalAllocatedBytes()} "
        + $"in_flight={_session.InFlight} request_objects={_session.RequestsAllocated} "
        + $"connections={_pool.ConnectionCount} commands_in_flight={_pool.InFlight}");

    private static NbdConnectionPool? Connect(Invocation invocation, StopSignals signals)
    {
        try
        {
            return NbdConnectionPool.Connect(
                invocation.Endpoint, invocation.ExportName, invocation.Client, signals.Token);
        }
        catch (OperationCanceledException)
        {
            return null;
        }
        catch (NbdException exception) when (exception.Errno == Errno.ETIMEDOUT)
        {
            throw new NbdException(
                $"{exception.Message} (--connect-timeout is {invocation.Client.ConnectTimeout.TotalSeconds} s)",
                exception.Errno,
                exception);
        }
    }

    private static string Describe(NbdConnectionPool pool) =>
        $"{pool.Endpoint}: export '{pool.Export.Name}', {pool.Export.SizeBytes} bytes, {pool.Export.Flags}, "
        + $"block sizes {pool.Export.MinimumBlockBytes}/{pool.Export.PreferredBlockBytes}/"
        + $"{pool.Export.MaximumPayloadBytes}, {pool.ConnectionCount} connections";

    private static ExportFileOptions FileOptions(Invocation invocation, NbdConnectionPool pool, MountTarget target)
    {
        FuseOptions fuse = invocation.Fuse;
        return new ExportFileOptions
        {
            FileName = target.FileName,
            ReadOnly = invocation.ReadOnly || fuse.ReadOnly || pool.Export.IsReadOnly,
            UserId = invocation.UserId ?? fuse.UserId ?? LibC.geteuid(),
            GroupId = invocation.GroupId ?? fuse.GroupId ?? LibC.getegid(),
            Mode = invocation.Mode,
            Umask = fuse.Umask ?? (fuse.AllowOther ? ProcessUmask() : 0),
            OnlyUserId = fuse.AllowRoot ? LibC.getuid() : null,
            KeepCache = fuse.KernelCache || pool.IsCaptive,
            Cache = invocation.Cache,
            AttrTimeout = fuse.AttrTimeout,
            EntryTimeout = fuse.EntryTimeout,
        };
    }

    private static uint ProcessUmask()
    {
        mode_t umask = LibC.umask(default);
        _ = LibC.umask(umask);
        return (uint)umask;
    }

    private static FuseMountOptions MountOptions(
        Invocation invocation, NbdConnectionPool pool, ExportFileOptions options) => new()
        {
            Source = invocation.Fuse.Source ?? pool.Endpoint.FormatUri(pool.Export.Name),
            Subtype = invocation.Fuse.Subtype,
            ReadOnly = options.ReadOnly,
            AllowOther = invocation.Fuse.AllowOther || invocation.Fuse.AllowRoot,
            AutoUnmount = invocation.Fuse.AutoUnmount,
            MaxReadBytes = invocation.Fuse.MaxReadBytes,
            Flags = invocation.Fuse.MountFlags,
        };

    private static FuseSessionOptions SessionOptions(Invocation invocation, Log log) => new()
    {
        Workers = invocation.SingleThreaded ? 1 : invocation.Fuse.Workers,
        CloneDevice = invocation.Fuse.CloneDevice,
        WritebackCache = invocation.Cache == CacheMode.Writeback,
        Trace = invocation.Debug || invocation.Fuse.Debug ? log.Write : null,
        Warn = log.Write,
    };
}
