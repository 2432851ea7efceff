using System.Collections.Concurrent;
using Tmds.Linux;

namespace Linux;

/// <summary>
/// A thread that lives on an io_uring: it hands over what its clients prepared, waits, and tells them what was done.
/// Several things that know nothing of each other so share one wait: the one thread can serve both ends of a way.
/// <para>
/// A client may keep the thread for a while (<see cref="Keep"/>) and wait inside by <see cref="Turn"/>, which serves
/// all other clients meanwhile: so a loop that receives from a stream reads as if it blocked.
/// </para>
/// <para>
/// <see cref="Post"/>, <see cref="Keep"/>, <see cref="RunOn"/> and <see cref="Dispose"/> are thread-safe; all else is for its own thread.
/// </para>
/// </summary>
public sealed unsafe class RingLoop : IDisposable
{
    private const uint Submissions = 256;
    private const uint Completions = 4096;
    private const uint WakeTag = 0;

    [ThreadStatic]
    private static RingLoop? t_current;

    private readonly Thread _thread;
    private readonly SafeFd _wake;
    private readonly TaskCompletionSource _started = new();
    private readonly ConcurrentQueue<Action> _keepers = new();
    private readonly List<IRingClient?> _clients = [];
    private readonly NativeBuffer _wakeCount = new(sizeof(ulong));
    private readonly BusyPolling _polling = new();
    private IoUring? _ring;

    // A stack: whoever posts pushes, the thread takes all of it.
    private IRingWork? _posted;

    // 1 while the thread waits, or is about to: whoever posts and swaps it to 0 has to wake it.
    private int _sleeps;
    private volatile bool _stops;

    /// <summary>Starts the thread.</summary>
    /// <param name="index">Its number among its like, from 0.</param>
    /// <param name="name">Name of the thread; the number is added.</param>
    /// <exception cref="LinuxException">
    /// EPERM when io_uring is forbidden (sysctl kernel.io_uring_disabled), ENOSYS, EINVAL before Linux 6.6, ENOMEM.
    /// </exception>
    public RingLoop(int index, string name)
    {
        Index = index;
        int fd = LibC.eventfd(0, LibC.EFD_CLOEXEC);
        _wake = fd < 0 ? throw LinuxException.FromLastError("eventfd") : new SafeFd(fd);
        _thread = new Thread(Live) { Name = $"{name}-{index}", IsBackground = true };
        _thread.Start();
        try
        {
            _started.Task.GetAwaiter().GetResult();
        }
        catch
        {
            _thread.Join();
            Free();
            throw;
        }
    }

    /// <summary>The loop whose thread is running, or null.</summary>
    public static RingLoop? Current => t_current;

    /// <summary>Its number among its like.</summary>
    public int Index { get; }

    /// <summary>Whether this is the loop's own thread.</summary>
    public bool IsCurrent => ReferenceEquals(t_current, this);

    /// <summary>Has <paramref name="work"/> run soon, on the thread.</summary>
    /// <param name="work">Not posted at the moment, to this loop or another.</param>
    public void Post(IRingWork work)
    {
        ArgumentNullException.ThrowIfNull(work);
        IRingWork? top = Volatile.Read(ref _posted);
        while (true)
        {
            work.NextPosted = top;
            IRingWork? seen = Interlocked.CompareExchange(ref _posted, work, top);
            if (ReferenceEquals(seen, top))
            {
                break;
            }

            top = seen;
        }

        Wake();
    }

    /// <summary>
    /// Gives the thread to <paramref name="body"/>, after those that had it before, until it returns. It waits only by
    /// <see cref="Turn"/>.
    /// </summary>
    public void Keep(Action body)
    {
        _keepers.Enqueue(body);
        Wake();
    }

    /// <summary>
    /// Has the thread run on some processors alone, soon, as far as it may (<see cref="ThreadProcessors.TryNarrow"/>).
    /// </summary>
    public void RunOn(IReadOnlyList<int> processors) => Post(new Narrowing(processors));

    /// <summary>Adds a client.</summary>
    /// <returns>Names it to <see cref="Prepare"/>.</returns>
    public int Add(IRingClient client)
    {
        _clients.Add(client);
        return _clients.Count - 1;
    }

    /// <summary>Forgets a client. Nothing may be under way for it.</summary>
    public void Remove(int client) => _clients[client] = null;

    /// <summary>A cleared submission, to be filled at once. It goes out with the next turn, if not before.</summary>
    /// <param name="client">Who is told when it is done.</param>
    /// <param name="tag">A number that comes back.</param>
    /// <exception cref="LinuxException">The kernel does not take what was prepared before.</exception>
    public IoUringSubmission* Prepare(int client, uint tag)
    {
        IoUringSubmission* submission;
        while ((submission = _ring!.TryPrepare()) is null)
        {
            _ring!.Enter(wait: false);
        }

        submission->UserData = ((ulong)(uint)client << 32) | tag;
        return submission;
    }

    /// <summary>
    /// Waits until something was done and tells those whom it concerns. Not to be called by them, nor by posted work.
    /// </summary>
    /// <exception cref="LinuxException">The kernel does not go on.</exception>
    public void Turn() => TakeTurn(endsForKeeper: false);

    /// <summary>Ends the thread. Nobody may keep it any more; what is under way is cancelled.</summary>
    public void Dispose()
    {
        if (_stops)
        {
            return;
        }

        _stops = true;
        Wake();
        _thread.Join();
        Free();
    }

    private void Free()
    {
        _ring?.Dispose();
        _wake.Dispose();
        _wakeCount.Dispose();
    }

    private void Live()
    {
        t_current = this;
        try
        {
            _ring = new IoUring(Submissions, Completions);
        }
        catch (LinuxException exception)
        {
            _started.SetException(exception);
            return;
        }

        _ = Add(new Alarm(this));
        ListenForWake();
        _started.SetResult();
        try
        {
            while (!_stops)
            {
                if (_keepers.TryDequeue(out Action? body))
                {
                    body();
                }
                else
                {
                    TakeTurn(endsForKeeper: true);
                }
            }
        }
#pragma warning disable CA1031 // The end of the thread: whatever it was, its clients have to know.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            _clients.ForEach(client => client?.LoopFailed(exception));
        }
    }

    private void TakeTurn(bool endsForKeeper)
    {
        RunPosted();
        for (int i = 0; i < _clients.Count; i++)
        {
            _clients[i]?.BeforeWait();
        }

        if (!TryPoll(endsForKeeper))
        {
            // A full fence: either we see what is posted now, or whoever posts it sees that we sleep.
            _ = Interlocked.Exchange(ref _sleeps, 1);
            _ring!.Enter(wait: !HasWork(endsForKeeper));
            Volatile.Write(ref _sleeps, 0);
        }

        while (_ring!.TryTake(out ulong userData, out int result))
        {
            _clients[(int)(userData >> 32)]?.Completed((uint)userData, result);
        }
    }

    /// <summary>Hands over what was prepared, and looks for a moment whether something comes.</summary>
    /// <returns>True when there is something to do.</returns>
    private bool TryPoll(bool endsForKeeper)
    {
        if (!_polling.TryBegin())
        {
            return false;
        }

        bool isFound;
        do
        {
            _ring!.Enter(wait: false);
            isFound = _ring!.HasCompletion || HasWork(endsForKeeper);
        }
        while (!isFound && _polling.Continues());

        _polling.End(isFound);
        return isFound;
    }

    private bool HasWork(bool endsForKeeper) =>
        Volatile.Read(ref _posted) is not null || (endsForKeeper && (_stops || !_keepers.IsEmpty));

    private void RunPosted()
    {
        if (Volatile.Read(ref _posted) is null)
        {
            return;
        }

        IRingWork? work = Interlocked.Exchange(ref _posted, null);
        while (work is not null)
        {
            // First, since it may be posted again as soon as it runs.
            IRingWork? next = work.NextPosted;
            work.NextPosted = null;
            work.Run();
            work = next;
        }
    }

    private void Wake()
    {
        if (Interlocked.Exchange(ref _sleeps, 0) != 0)
        {
            ulong one = 1;
            _ = LibC.write(_wake.Fd, &one, sizeof(ulong));
        }
    }

    private void ListenForWake()
    {
        IoUringSubmission* read = Prepare(0, WakeTag);
        read->Operation = IoUringOperation.Read;
        read->Fd = _wake.Fd;
        read->Address = (ulong)_wakeCount.Start;
        read->Length = sizeof(ulong);
    }

    /// <summary>Moves the thread.</summary>
    private sealed class Narrowing(IReadOnlyList<int> processors) : IRingWork
    {
        public IRingWork? NextPosted { get; set; }

        public void Run() => _ = ThreadProcessors.TryNarrow(processors);
    }

    /// <summary>Listens for those who post.</summary>
    private sealed class Alarm(RingLoop loop) : IRingClient
    {
        public void Completed(uint tag, int result) => loop.ListenForWake();

        public void BeforeWait()
        {
        }

        public void LoopFailed(Exception reason)
        {
        }
    }
}
