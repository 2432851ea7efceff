using Linux;
using Nbd;
using Nbd.Protocol;

namespace NbdFuse;

/// <summary>
/// One NBD command of a series, as a task. Whoever awaits it goes on on the thread pool, not on the receive thread.
/// </summary>
internal sealed unsafe class CommandTask : NbdCompletion
{
    private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private CommandTask()
    {
    }

    /// <summary>Reads to <paramref name="destination"/>, which must stay until the task has ended.</summary>
    internal static Task<Errno> Read(NbdConnectionPool pool, ulong offset, uint length, nint destination)
    {
        CommandTask task = new();
        return task.Unless(pool.Read(offset, (byte*)destination, length, NbdCommandFlags.None, task));
    }

    /// <summary>Writes from <paramref name="payload"/>, which must stay until the task has ended.</summary>
    internal static Task<Errno> Write(
        NbdConnectionPool pool, ulong offset, nint payload, uint length, NbdCommandFlags flags)
    {
        CommandTask task = new();
        return task.Unless(pool.Write(offset, (byte*)payload, length, flags, task));
    }

    internal static Task<Errno> WriteZeroes(NbdConnectionPool pool, ulong offset, uint length, NbdCommandFlags flags)
    {
        CommandTask task = new();
        return task.Unless(pool.WriteZeroes(offset, length, flags, task));
    }

    internal static Task<Errno> Flush(NbdConnectionPool pool)
    {
        CommandTask task = new();
        return task.Unless(pool.Flush(task));
    }

    /// <inheritdoc/>
    protected override void OnCompleted(Errno outcome, byte* data) => _outcome.SetResult(outcome);

    private Task<Errno> Unless(Errno refused) => refused == Errno.None ? _outcome.Task : Task.FromResult(refused);
}
