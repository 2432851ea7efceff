using Linux;

namespace Fuse;

/// <summary>
/// Serves a mount: negotiates with the kernel, then has worker threads read requests and call the file system until
/// the mount is gone. Start order: <see cref="Initialize"/>, <see cref="Start"/>. Thread-safe after that.
/// </summary>
/// <remarks>No thread of this process may touch the mount itself: it could wait for its own answer.</remarks>
public sealed partial class FuseSession : IDisposable
{
    internal const int MaxWorkers = 64;

    private readonly FuseMount _mount;
    private readonly FuseFileSystem _fileSystem;
    private readonly FuseSessionOptions _options;
    private readonly FuseWarnings _warnings;
    private readonly FuseReplySender _replies;
    private readonly DeviceChannel _device;
    private readonly ManualResetEvent _ended = new(false);
    private readonly List<DeviceChannel> _clones = [];
    private FuseLimits? _limits;
    private FuseRequestPool? _pool;
    private FuseDispatcher? _dispatcher;
    private FuseRequesterWatch? _watch;
    private FuseWorker[] _workers = [];

    // How many workers read at a time: one for each device descriptor.
    private SemaphoreSlim? _turns;
    private int _running;
    private Exception? _fault;

    /// <summary>Prepares a session. Nothing is read yet.</summary>
    /// <param name="mount">Stays the caller's, and must outlive the session.</param>
    /// <param name="fileSystem">What answers.</param>
    /// <param name="options">How.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range.</exception>
    public FuseSession(FuseMount mount, FuseFileSystem fileSystem, FuseSessionOptions options)
    {
        ArgumentNullException.ThrowIfNull(mount);
        ArgumentNullException.ThrowIfNull(fileSystem);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Workers, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.Workers, MaxWorkers);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxRequestBytes, 4096);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MaxRequestBytes, 16 << 20);
        _mount = mount;
        _fileSystem = fileSystem;
        _options = options;
        _warnings = new FuseWarnings(options.Warn);
        _replies = new FuseReplySender(_warnings, options.Trace);
        _device = new DeviceChannel(mount.Device, ownsDevice: false);
    }

    /// <summary>What was negotiated.</summary>
    /// <exception cref="InvalidOperationException">The session is not initialized.</exception>
    public FuseLimits Limits => _limits ?? throw new InvalidOperationException("the session is not initialized");

    /// <summary>
    /// Set once all workers have left (unmount or abort), or at once when one left because of
    /// <see cref="Fault"/>: unmount then, so that the others leave too.
    /// </summary>
    public WaitHandle Ended => _ended;

    /// <summary>Why the session ended; null after an unmount or an abort.</summary>
    public Exception? Fault => Volatile.Read(ref _fault);

    /// <summary>Requests that the file system has not answered yet, interrupted ones included.</summary>
    public int InFlight => _pool?.Taken ?? 0;

    /// <summary>Request objects made so far.</summary>
    public int RequestsAllocated => _pool?.Allocated ?? 0;

    /// <summary>Requests read so far, those without a reply included.</summary>
    public long RequestsServed => _workers.Sum(worker => worker.Served) + _queues.Sum(queues => queues.Served);

    /// <summary>Starts the worker threads, named fuse-0, fuse-1, ... Call it once.</summary>
    /// <exception cref="InvalidOperationException">The session is not initialized.</exception>
    public void Start()
    {
        if (_pool is null)
        {
            throw new InvalidOperationException("the session is not initialized");
        }

        DeviceChannel[] channels = new DeviceChannel[_options.Workers];
        for (int i = 0; i < channels.Length; i++)
        {
            channels[i] = i == 0 ? _device : Clone();
        }

        FuseDispatcher dispatcher = _dispatcher = new(_fileSystem, _pool, _warnings, _options.Trace, [.. channels.Distinct()])
        {
            Unmatched = IsUringAgreed ? new UnmatchedInterrupts() : null,
        };
        if (IsUringAgreed)
        {
            RegisterUring(dispatcher);
        }

        _running = channels.Length;
        _turns = new SemaphoreSlim(_clones.Count + 1);
        _workers = [.. channels.Select((channel, i) => new FuseWorker(this, channel, dispatcher, _pool, _turns, i))];
        foreach (FuseWorker worker in _workers)
        {
            worker.Start();
        }

        _watch = new FuseRequesterWatch(_pool);
        _watch.Start();
    }

    /// <summary>Waits for <see cref="Ended"/>.</summary>
    /// <returns>False when it did not happen in time.</returns>
    public bool WaitForEnd(TimeSpan timeout) => _ended.WaitOne(timeout);

    /// <summary>
    /// Lets the file system have no more requests: new ones are answered with <paramref name="error"/>, those that it
    /// has go on. So programs that keep a file of a lazily unmounted file system open, and busy, come to an end.
    /// </summary>
    public void RefuseRequests(Errno error) => _dispatcher?.Refuse(error);

    /// <summary>
    /// Answers all unanswered requests, so that nobody waits any longer for whatever the file system waits for. The
    /// file system's own replies to them will send nothing.
    /// </summary>
    /// <returns>How many there were.</returns>
    public int FailPending(Errno error) => _pool?.AnswerAll(error) ?? 0;

    /// <summary>
    /// Frees the session's memory, if all workers have left and the file system has answered everything: after the
    /// unmount. Otherwise the memory stays until the process ends, since it is in use.
    /// </summary>
    public void Dispose()
    {
        _watch?.Dispose();
        _pool?.Close();
        if (_workers.All(worker => worker.Join(TimeSpan.FromMilliseconds(100))))
        {
            _clones.ForEach(clone => clone.Dispose());
            _device.Dispose();
            _turns?.Dispose();
            if (InFlight == 0 && !Array.Exists(_queues, queues => queues.IsAlive))
            {
                Array.ForEach(_queues, queues => queues.Dispose());
                _pool?.Dispose();
            }

            _ended.Dispose();
        }
    }

    internal void WorkerEnded(Exception? fault)
    {
        if (fault is not null)
        {
            _ = Interlocked.CompareExchange(ref _fault, fault, null);
        }

        if (Interlocked.Decrement(ref _running) == 0 || fault is not null)
        {
            _ = _ended.Set();
        }
    }

    private DeviceChannel Clone()
    {
        if (!_options.CloneDevice)
        {
            return _device;
        }

        try
        {
            DeviceChannel clone = DeviceChannel.Clone(_mount.Device);
            _clones.Add(clone);
            return clone;
        }
        catch (LinuxException exception)
        {
            _warnings.Report("clone", $"{exception.Message}; the workers share one device");
            return _device;
        }
    }
}
