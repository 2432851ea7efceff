using System.Collections.Concurrent;
using Fuse;

namespace UnitTests.FuseTests;

public sealed class RequestPoolTests
{
    [Fact]
    public void A_request_is_never_handed_out_while_somebody_has_it()
    {
        const int Threads = 8;
        const int Rounds = 20_000;
        using FuseRequestPool pool = Create(bound: 6);
        ConcurrentDictionary<FuseRequest, int> owned = new();
        int violations = 0;
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(thread => new Thread(() =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                FuseRequest request = pool.Rent()!;
                if (!owned.TryAdd(request, thread))
                {
                    _ = Interlocked.Increment(ref violations);
                }

                _ = owned.TryRemove(request, out _);
                pool.Return(request);
            }
        }))];

        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());

        Assert.Equal(0, violations);
        Assert.InRange(pool.Allocated, 1, 6);
    }

    [Fact]
    public void The_one_used_last_is_used_next()
    {
        using FuseRequestPool pool = Create(bound: 8);
        FuseRequest first = pool.Rent()!;
        FuseRequest second = pool.Rent()!;

        pool.Return(second);
        pool.Return(first);

        Assert.Same(first, pool.Rent());
        Assert.Same(second, pool.Rent());
    }

    [Fact]
    public void At_the_bound_a_renter_waits_for_a_return_and_leaves_when_the_pool_closes()
    {
        using FuseRequestPool pool = Create(bound: 1);
        FuseRequest only = pool.Rent()!;
        FuseRequest? rented = null;
        Thread renter = new(() => rented = pool.Rent());
        renter.Start();
        SpinWait.SpinUntil(() => renter.ThreadState.HasFlag(ThreadState.WaitSleepJoin));

        pool.Return(only);
        renter.Join();
        Assert.Same(only, rented);

        Thread waiter = new(() => rented = pool.Rent());
        waiter.Start();
        pool.Close();
        waiter.Join();
        Assert.Null(rented);
    }

    [Fact]
    public unsafe void Only_some_big_buffers_keep_their_memory_while_idle()
    {
        const int Many = 80;
        const int Kept = 64;
        using FuseRequestPool pool = Create(bound: Many);
        FuseRequest[] requests = [.. Enumerable.Range(0, Many).Select(_ => pool.Rent()!)];
        foreach (FuseRequest request in requests)
        {
            request.Buffer[100_000] = 1;
            request.TouchedBytes = 100_001;
            pool.Return(request);
        }

        Assert.Equal(Kept, requests.Count(request => request.Buffer[100_000] == 1));
        Assert.Equal(Kept, requests.Count(request => request.TouchedBytes > FuseRequestPool.LargeBytes));
    }

    private static FuseRequestPool Create(int bound) =>
        new(1 << 20, new FuseReplySender(new FuseWarnings(null), null), bound);
}
