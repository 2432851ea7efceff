using System.Collections.Concurrent;

namespace Linux;

/// <summary>
/// A thread that lives as long as the process. PR_SET_PDEATHSIG fires when the *thread* that spawned the child
/// ends, so children that are to die with us are spawned here.
/// </summary>
internal static class SpawnThread
{
    private static readonly BlockingCollection<(Func<ChildProcess> Spawn, TaskCompletionSource<ChildProcess> Done)>
        s_work = Start();

    /// <summary>Spawns on that thread and waits for the result. Thread-safe.</summary>
    internal static ChildProcess Run(Func<ChildProcess> spawn)
    {
        TaskCompletionSource<ChildProcess> done = new();
        s_work.Add((spawn, done));
        return done.Task.GetAwaiter().GetResult();
    }

    private static BlockingCollection<(Func<ChildProcess>, TaskCompletionSource<ChildProcess>)> Start()
    {
        BlockingCollection<(Func<ChildProcess> Spawn, TaskCompletionSource<ChildProcess> Done)> work = [];
        new Thread(() =>
        {
            ThreadProcessors.Release();
            foreach ((Func<ChildProcess> spawn, TaskCompletionSource<ChildProcess> done) in work.GetConsumingEnumerable())
            {
                try
                {
                    done.SetResult(spawn());
                }
                catch (Exception exception)
                {
                    done.SetException(exception);
                }
            }
        })
        { Name = "spawn", IsBackground = true }.Start();
        return work;
    }
}
