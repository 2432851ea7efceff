using Linux;

namespace Nbd;

/// <summary>
/// One command of a series, as a task. Whoever awaits it goes on on the thread pool, not on the receive thread.
/// </summary>
internal sealed unsafe class CommandTask : NbdCompletion, IThreadPoolWorkItem
{
    private readonly NbdCompletion? _series;

    // Set on the pool's thread: whoever awaits goes on right there.
    private readonly TaskCompletionSource<Errno> _outcome = new();
    private Errno _result;

    private CommandTask(NbdCompletion? series)
    {
        _series = series;
    }

    /// <summary>Begins a command. Memory that it uses must stay until the task has ended.</summary>
    /// <param name="series">Told what the server says about an error; null: nobody is.</param>
    /// <param name="submit">Sends it, and says whether it was accepted.</param>
    internal static Task<Errno> Run(NbdCompletion? series, Func<NbdCompletion, Errno> submit)
    {
        CommandTask task = new(series);
        Errno refused = submit(task);
        return refused == Errno.None ? task._outcome.Task : Task.FromResult(refused);
    }

    /// <inheritdoc/>
    protected internal override void OnCompleted(Errno outcome, byte* data)
    {
        _result = outcome;
        _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
    }

    /// <inheritdoc/>
    protected internal override void OnServerError(NbdServerError said) => _series?.OnServerError(said);

    /// <summary>On the pool, whose thread may have been started by that of a ring.</summary>
    void IThreadPoolWorkItem.Execute()
    {
        ThreadProcessors.Release();
        _outcome.SetResult(_result);
    }
}
