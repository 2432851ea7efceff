using Linux;

namespace Fuse;

/// <summary>
/// Sees to it that a program can be killed while its request is not answered. The kernel sends INTERRUPT only to
/// those who wait interruptibly: not for O_DIRECT I/O under FUSE_ASYNC_DIO (fs/fuse/file.c fuse_direct_IO waits
/// uninterruptibly) and not for read-ahead. So this thread looks, in /proc, at the requesters of requests that have
/// been unanswered for a while; one that is ending, gone, or has a signal pending that asks it to end gets EINTR.
/// What others need of the same page they then ask for themselves.
/// </summary>
internal sealed class FuseRequesterWatch : IDisposable
{
    // A request is looked at when it was unanswered at two ticks: the usual ones never are. Costs two wake-ups a second.
    private static readonly TimeSpan s_tick = TimeSpan.FromMilliseconds(500);

    private readonly FuseRequestPool _pool;
    private readonly ManualResetEvent _stop = new(false);
    private readonly Thread _thread;
    private ulong[] _unansweredBefore = [];

    internal FuseRequesterWatch(FuseRequestPool pool)
    {
        _pool = pool;
        _thread = new Thread(Run) { Name = "fuse-watch", IsBackground = true };
    }

    internal void Start() => _thread.Start();

    public void Dispose()
    {
        _stop.Set();
        if (_thread.ThreadState.HasFlag(ThreadState.Unstarted) || _thread.Join(TimeSpan.FromSeconds(1)))
        {
            _stop.Dispose();
        }
    }

    private void Run()
    {
        while (!_stop.WaitOne(s_tick))
        {
            Tick();
        }
    }

    private void Tick()
    {
        ReadOnlySpan<FuseRequest?> requests = _pool.Made;
        if (_unansweredBefore.Length < requests.Length)
        {
            Array.Resize(ref _unansweredBefore, requests.Length);
        }

        bool isAnyAnswered = false;
        for (int i = 0; i < requests.Length; i++)
        {
            FuseRequest request = requests[i]!;
            ulong unique = request.Pending;
            uint requester = request.ProcessId;
            if (unique != 0 && unique == _unansweredBefore[i] && requester != 0
                && request.Pending == unique && ProcessSignals.IsEnding(requester))
            {
                isAnyAnswered |= request.TryAnswerInstead(unique, Errno.EINTR);
            }

            _unansweredBefore[i] = unique;
        }

        if (isAnyAnswered)
        {
            _pool.NoteAnswered();
        }
    }
}
