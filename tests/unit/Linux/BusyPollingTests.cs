using System.Diagnostics;
using Linux;

namespace UnitTests.LinuxTests;

public sealed class BusyPollingTests
{
    private static readonly long s_microsecond = Stopwatch.Frequency / 1_000_000;

    private readonly BusyPolling _polling;
    private long _now;
    private long _othersRun;

    public BusyPollingTests()
    {
        _polling = new(() => _now, () => _now += _othersRun, int.MaxValue);
    }

    [Fact]
    public void A_peer_that_is_quick_is_looked_for_each_time()
    {
        for (int i = 0; i < 10_000; i++)
        {
            Assert.True(_polling.TryBegin());
            _now += 20 * s_microsecond;
            Assert.True(_polling.Continues());
            _polling.End(found: true);
        }
    }

    [Fact]
    public void It_ends_after_50_microseconds()
    {
        Assert.True(_polling.TryBegin());
        _now += 49 * s_microsecond;
        Assert.True(_polling.Continues());
        _now += 2 * s_microsecond;
        Assert.False(_polling.Continues());
        _polling.End(found: false);
    }

    [Fact]
    public void A_peer_that_is_slow_is_looked_for_ever_more_rarely() =>
        Assert.Equal([1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023], WaitsBetweenLooks(5000, found: false));

    [Fact]
    public void A_peer_that_became_quick_is_looked_for_each_time_again()
    {
        _ = WaitsBetweenLooks(6000, found: false);

        Assert.Equal(0, WaitsBetweenLooks(6000, found: true)[^1]);
    }

    [Fact]
    public void Whoever_computes_on_the_processor_gets_it()
    {
        Assert.True(_polling.TryBegin());
        _othersRun = 3000 * s_microsecond;
        Assert.False(_polling.Continues());
        _polling.End(found: false);

        Assert.Equal(16 * 1024, Enumerable.Range(0, 20_000).TakeWhile(_ => !_polling.TryBegin()).Count());
        _polling.End(found: true);
    }

    [Fact]
    public void Only_so_many_threads_look_at_a_time()
    {
        BusyPolling second = new(() => _now, () => { }, 1);
        Assert.True(_polling.TryBegin());
        Assert.False(second.TryBegin());
        _polling.End(found: true);

        Assert.False(new BusyPolling(() => _now, () => { }, 0).TryBegin());
    }

    private List<int> WaitsBetweenLooks(int waits, bool found)
    {
        List<int> between = [];
        int last = -1;
        for (int i = 0; i < waits; i++)
        {
            if (_polling.TryBegin())
            {
                _polling.End(found);
                if (last >= 0)
                {
                    between.Add(i - last - 1);
                }

                last = i;
            }
        }

        return between;
    }
}
