using System.Collections.Concurrent;
using System.IO.Pipes;
using Linux;

namespace UnitTests.LinuxTests;

/// <summary>With the kernel of this machine, which must have io_uring (Linux 6.6, kernel.io_uring_disabled 0).</summary>
public sealed unsafe class RingLoopTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(20);

    [Fact]
    public void What_any_thread_posts_runs_once_and_on_the_loops_thread()
    {
        const int Threads = 4;
        const int Rounds = 5_000;
        using RingLoop loop = new(0, "test");
        using CountdownEvent ran = new(Threads * Rounds);
        int elsewhere = 0;

        Parallel.For(0, Threads, new ParallelOptions { MaxDegreeOfParallelism = Threads }, _ =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                loop.Post(new Work(() =>
                {
                    elsewhere += loop.IsCurrent ? 0 : 1;
                    ran.Signal();
                }));
            }
        });

        AssertHappens(ran.WaitHandle);
        Assert.Equal(0, elsewhere);
        Assert.Null(RingLoop.Current);
    }

    [Fact]
    public void Work_may_post_itself_again()
    {
        using RingLoop loop = new(0, "test");
        using ManualResetEventSlim done = new();
        int rounds = 0;
        Work work = null!;
        work = new Work(() =>
        {
            if (++rounds == 100)
            {
                done.Set();
            }
            else
            {
                loop.Post(work);
            }
        });

        loop.Post(work);

        AssertHappens(done.WaitHandle);
        Assert.Equal(100, rounds);
    }

    [Fact]
    public void More_than_the_queue_holds_can_be_prepared_at_once()
    {
        const int Reads = 2_000;
        using RingLoop loop = new(0, "test");
        using FileStream zero = File.OpenRead("/dev/zero");
        using NativeBuffer buffer = new(Reads);
        Client client = new(Reads);

        loop.Post(new Work(() =>
        {
            int name = loop.Add(client);
            for (uint i = 0; i < Reads; i++)
            {
                PrepareRead(loop, name, i, zero, buffer.Start + i, 1);
            }
        }));

        AssertHappens(client.Done.WaitHandle);
        Assert.Equal(Enumerable.Range(0, Reads), client.Completions.Select(completion => (int)completion.Tag).Order());
        Assert.All(client.Completions, completion => Assert.Equal(1, completion.Result));
    }

    [Fact]
    public void An_error_comes_as_a_negative_number()
    {
        using RingLoop loop = new(0, "test");
        using AnonymousPipeServerStream pipe = new(PipeDirection.Out);
        using NativeBuffer buffer = new(1);
        Client client = new(1);

        loop.Post(new Work(
            () => PrepareRead(loop, loop.Add(client), 7, pipe.SafePipeHandle.DangerousGetHandle(), buffer.Start, 1)));

        AssertHappens(client.Done.WaitHandle);
        Assert.Equal((7u, -(int)Errno.EBADF), client.Completions.Single());
    }

    [Fact]
    public void Whoever_keeps_the_thread_and_waits_lets_the_others_be_served()
    {
        using RingLoop loop = new(0, "test");
        using AnonymousPipeServerStream pipe = new(PipeDirection.Out);
        using NativeBuffer buffer = new(16);
        using ManualResetEventSlim waits = new();
        using ManualResetEventSlim posted = new();
        using ManualResetEventSlim isOver = new();
        List<string> order = [];
        Client client = new(1);
        loop.Keep(() =>
        {
            PrepareRead(loop, loop.Add(client), 1, pipe.ClientSafePipeHandle.DangerousGetHandle(), buffer.Start, 16);
            waits.Set();
            while (client.Completions.IsEmpty)
            {
                loop.Turn();
            }

            order.Add("first");
        });
        loop.Keep(() =>
        {
            order.Add("second");
            isOver.Set();
        });

        AssertHappens(waits.WaitHandle);
        loop.Post(new Work(posted.Set));
        AssertHappens(posted.WaitHandle);
        Assert.Empty(order);

        pipe.Write([1, 2, 3]);
        AssertHappens(isOver.WaitHandle);
        Assert.Equal(["first", "second"], order);
        Assert.Equal((1u, 3), client.Completions.Single());
    }

    [Fact]
    public void What_is_under_way_does_not_keep_the_loop_from_ending()
    {
        using AnonymousPipeServerStream pipe = new(PipeDirection.Out);
        using NativeBuffer buffer = new(16);
        using ManualResetEventSlim isPrepared = new();
        RingLoop loop = new(0, "test");
        loop.Post(new Work(() =>
        {
            PrepareRead(
                loop, loop.Add(new Client(1)), 1, pipe.ClientSafePipeHandle.DangerousGetHandle(), buffer.Start, 16);
            isPrepared.Set();
        }));
        AssertHappens(isPrepared.WaitHandle);

        Thread end = new(loop.Dispose);
        end.Start();
        Assert.True(end.Join(s_limit));
        loop.Dispose();
    }

    [Fact]
    public void When_a_loop_fails_all_its_clients_are_told_why()
    {
        using RingLoop loop = new(0, "test");
        Client first = new(1);
        Client second = new(1);
        loop.Post(new Work(() =>
        {
            loop.Add(first);
            loop.Add(second);
            throw new InvalidOperationException("work that throws");
        }));

        AssertHappens(first.Failed.WaitHandle);
        AssertHappens(second.Failed.WaitHandle);
        Assert.Equal("work that throws", first.Reason?.Message);
    }

    [Fact]
    public void A_client_that_was_removed_hears_nothing()
    {
        using RingLoop loop = new(0, "test");
        using ManualResetEventSlim isOver = new();
        Client client = new(1);
        loop.Post(new Work(() =>
        {
            loop.Remove(loop.Add(client));
            loop.Post(new Work(isOver.Set));
        }));

        AssertHappens(isOver.WaitHandle);
        Assert.Equal(0, client.Waits);
    }

    [Fact]
    public void A_set_makes_each_loop_once()
    {
        using RingSet set = new("test");

        RingLoop third = set.Get(2);

        Assert.Equal([0, 1, 2], set.Loops.Select(loop => loop.Index));
        Assert.Same(third, set.Get(2));
        Assert.Same(set.Loops[0], set.Get(0));
    }

    private static void AssertHappens(WaitHandle handle) => Assert.True(handle.WaitOne(s_limit));

    private static void PrepareRead(RingLoop loop, int client, uint tag, FileStream file, byte* start, int length) =>
        PrepareRead(loop, client, tag, file.SafeFileHandle.DangerousGetHandle(), start, length);

    private static void PrepareRead(RingLoop loop, int client, uint tag, nint fd, byte* start, int length)
    {
        IoUringSubmission* submission = loop.Prepare(client, tag);
        submission->Operation = IoUringOperation.Read;
        submission->Fd = (int)fd;
        submission->Address = (ulong)start;
        submission->Length = (uint)length;
        submission->Offset = ulong.MaxValue;
    }

    private sealed class Work(Action run) : IRingWork
    {
        public IRingWork? NextPosted { get; set; }

        public void Run() => run();
    }

    /// <summary>Keeps what it is told; done after so many completions.</summary>
    private sealed class Client(int expected) : IRingClient
    {
        public ConcurrentQueue<(uint Tag, int Result)> Completions { get; } = new();

        public ManualResetEventSlim Done { get; } = new();

        public ManualResetEventSlim Failed { get; } = new();

        public Exception? Reason { get; private set; }

        public int Waits { get; private set; }

        public void Completed(uint tag, int result)
        {
            Completions.Enqueue((tag, result));
            if (Completions.Count == expected)
            {
                Done.Set();
            }
        }

        public void BeforeWait() => Waits++;

        public void LoopFailed(Exception reason)
        {
            Reason = reason;
            Failed.Set();
        }
    }
}
