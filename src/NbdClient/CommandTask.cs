using Linux;

namespace Nbd;

/// <summary>
/// One command of a series, as a task. Whoever awaits it goes on on the thread pool, not on the receive thread.
/// </summary>
internal sealed unsafe class CommandTask : NbdCompletion, IThreadPoolWorkItem
{
    // Set on the pool's thread: whoever awaits goes on right there.
    private readonly TaskCompletionSource<Errno> _outcome = new();
    private Errno _result;

    private CommandTask()
    {
    }

    /// <summary>Begins a command. Memory that it uses must stay until the task has ended.</summary>
    /// <param name="submit">Sends it, and says whether it was accepted.</param>
    internal static Task<Errno> Run(Func<NbdCompletion, Errno> submit)
    {
        CommandTask task = new();
        Errno refused = submit(task);
        return refused == Errno.None ? task._outcome.Task : Task.FromResult(refused);
    }

    /// <inheritdoc/>
    protected internal override void OnCompleted(Errno outcome, byte* data)
    {
        _result = outcome;
        _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    /// <summary>On the pool, whose thread may have been started by that of a ring.</summary>
    void IThreadPoolWorkItem.Execute()
    {
        ThreadProcessors.Release();
        _outcome.SetResult(_result);
    }
}
