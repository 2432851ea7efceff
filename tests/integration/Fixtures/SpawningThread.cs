using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace IntegrationTests.Fixtures;

/// <summary>
/// A thread that lives as long as the process. nbdkit asks for PR_SET_PDEATHSIG, which is about the thread that started
/// it, and the thread on which an async test begins ends at its first await.
/// </summary>
internal static class SpawningThread
{
    private static readonly BlockingCollection<Action> s_work = [];

    static SpawningThread() => new Thread(Work) { IsBackground = true, Name = "spawn" }.Start();

    /// <summary>Runs an action there and waits for its end.</summary>
    public static void Run(Action action)
    {
        using ManualResetEventSlim done = new();
        ExceptionDispatchInfo? failure = null;
        s_work.Add(() =>
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }

            done.Set();
        });
        done.Wait();
        failure?.Throw();
    }

    private static void Work()
    {
        foreach (Action action in s_work.GetConsumingEnumerable())
        {
            action();
        }
    }
}
