using Linux;

namespace UnitTests.LinuxTests;

public sealed class ThreadProcessorsTests
{
    private const int NoSuchProcessor = 8191;

    [Fact]
    public void A_thread_is_narrowed_to_those_processors_that_it_may_use() => OnThread(() =>
    {
        int first = Allowed()[0];

        Assert.True(ThreadProcessors.TryNarrow([NoSuchProcessor, first]));

        Assert.Equal([first], Allowed());
    });

    [Fact]
    public void A_thread_that_may_use_none_of_them_stays_as_it_is() => OnThread(() =>
    {
        int[] before = Allowed();

        Assert.False(ThreadProcessors.TryNarrow([NoSuchProcessor]));

        Assert.Equal(before, Allowed());
    });

    [Fact]
    public void A_thread_is_released_to_where_it_might_run_before() => OnThread(() =>
    {
        int[] before = Allowed();
        Assert.True(ThreadProcessors.TryNarrow([before[0]]));

        ThreadProcessors.Release();

        Assert.Equal(before, Allowed());
    });

    [Fact]
    public void A_loop_can_be_told_where_to_run()
    {
        using RingLoop loop = new(0, "test");
        int first = Allowed()[0];

        loop.RunOn([first]);

        // What was posted together runs in no order.
        _ = AllowedThere();
        Assert.Equal([first], AllowedThere());

        int[] AllowedThere()
        {
            TaskCompletionSource<int[]> seen = new();
            loop.Post(new Work(() => seen.SetResult(Allowed())));
            Assert.True(seen.Task.Wait(TimeSpan.FromSeconds(20), TestContext.Current.CancellationToken));
            return seen.Task.Result;
        }
    }

    private static int[] Allowed()
    {
        string line = File.ReadLines("/proc/thread-self/status").First(line => line.StartsWith("Cpus_allowed_list:"));
        return [.. line.Split(':')[1].Trim().Split(',').SelectMany(range =>
        {
            int[] ends = [.. range.Split('-').Select(int.Parse)];
            return Enumerable.Range(ends[0], ends[^1] - ends[0] + 1);
        })];
    }

    private sealed class Work(Action run) : IRingWork
    {
        public IRingWork? NextPosted { get; set; }

        public void Run() => run();
    }

    /// <summary>What happens to a thread shall not stay with one of the pool.</summary>
    private static void OnThread(Action body)
    {
        Exception? failure = null;
        Thread thread = new(() => failure = Record.Exception(body));
        thread.Start();
        thread.Join();
        Assert.Null(failure);
    }
}
