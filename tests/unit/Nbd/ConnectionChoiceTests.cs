using System.Collections.Concurrent;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Which connection of a pool a command takes.</summary>
public sealed class ConnectionChoiceTests
{
    [Fact]
    public async Task A_completion_goes_on_with_the_connection_of_its_reply()
    {
        const int Commands = 6;
        using ManualResetEventSlim firstIsDone = new();
        Action<FakePeer> Answer(Action wait) => peer =>
        {
            peer.Handshake(flags: 0x0165);
            for (int i = 0; i < Commands; i++)
            {
                FakeRequest request = peer.ReceiveRequest();
                wait();
                peer.Send(Frame.SimpleReply(0, request.Cookie));
            }

            peer.Drain();
        };

        using FakeNbdServer server = new(
            Answer(() => { }),
            Answer(() => Assert.True(firstIsDone.Wait(FakeNbdServer.TimeLimit), "a command came over the other connection")));
        using (NbdConnectionPool pool = TransmissionTests.Connect(server, 2))
        {
            // Each takes a connection, and stays there: the one whose server answers is done first.
            Task[] series = [new TrimSeries(pool, Commands).Run(), new TrimSeries(pool, Commands).Run()];
            CancellationToken token = TestContext.Current.CancellationToken;
            _ = await Task.WhenAny(series).WaitAsync(FakeNbdServer.TimeLimit, token);
            firstIsDone.Set();
            await Task.WhenAll(series).WaitAsync(FakeNbdServer.TimeLimit, token);
        }

        server.Finish();
    }

    [Fact]
    public unsafe void A_rings_thread_leaves_blocks_to_the_other_ring_and_keeps_small_commands_and_writes()
    {
        const int Commands = 6;
        const uint BlockBytes = 64 << 10;
        ConcurrentBag<(int Connection, uint Length)> seen = [];
        ConcurrentBag<int> written = [];
        using FakeNbdServer server = new([.. Enumerable.Range(0, 2).Select(i => new Action<FakePeer>(peer =>
        {
            peer.Handshake(flags: 0x0101);
            for (FakeRequest request = peer.ReceiveRequest(); request.Type != 2; request = peer.ReceiveRequest())
            {
                if (request.Type == 1)
                {
                    written.Add(i);
                    peer.Send(Frame.SimpleReply(0, request.Cookie));
                    continue;
                }

                seen.Add((i, request.Length));
                peer.Send(TransmissionTests.Data(request, 0, request.Length, true));
            }
        }))]);
        using RingSet rings = new("test");
        using NativeBuffer memory = new(4096 + (int)BlockBytes);
        NbdClientOptions options = new() { Connections = 2, Rings = rings };
        using (NbdConnectionPool pool = NbdConnectionPool.Connect(server.Endpoint, "", options, CancellationToken.None))
        {
            Assert.True(pool.UsesRings);
            for (int i = 0; i < Commands; i++)
            {
                RecordedCompletion block = new();
                RecordedCompletion small = new();
                RecordedCompletion[] writes = [new(), new()];
                rings.Loops[0].Post(new RingWork(() =>
                {
                    _ = pool.ReadAhead(0, memory.Start + 4096, BlockBytes, block);
                    _ = pool.Read(0, 4096, NbdCommandFlags.None, small);
                    _ = pool.Write(0, memory.Start, BlockBytes, NbdCommandFlags.None, writes[0]);
                    _ = pool.Write(0, memory.Start, BlockBytes, NbdCommandFlags.None, writes[1]);
                }));
                Assert.Equal(Errno.None, block.Outcome);
                Assert.Equal(Errno.None, small.Outcome);
                Assert.All(writes, write => Assert.Equal(Errno.None, write.Outcome));
            }

            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
        Assert.Equal(Enumerable.Repeat((0, 4096u), Commands), seen.Where(read => read.Length == 4096));
        Assert.Equal(Enumerable.Repeat(0, 2 * Commands), written);
        Assert.Equal(Enumerable.Repeat((1, BlockBytes), Commands), seen.Where(read => read.Length == BlockBytes));
    }

    [Fact]
    public async Task A_completion_of_a_connection_that_ended_goes_on_with_another()
    {
        using FakeNbdServer server = new(
            peer =>
            {
                peer.Handshake(flags: 0x0165);
                _ = peer.ReceiveRequest();
            },
            peer =>
            {
                peer.Handshake(flags: 0x0165);
                for (int i = 0; i < 3; i++)
                {
                    peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
                }

                peer.Drain();
            });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server, 2))
        {
            // Two for the connection that stays, one for the other, whose turn it is again after that.
            Errno[] outcomes = await Task.WhenAll(
                new RepeatedTrim(pool).Run(), new RepeatedTrim(pool).Run(), new RepeatedTrim(pool).Run())
                .WaitAsync(FakeNbdServer.TimeLimit, TestContext.Current.CancellationToken);
            Assert.All(outcomes, outcome => Assert.Equal(Errno.None, outcome));
        }

        server.Finish();
    }

    private sealed class RingWork(Action run) : IRingWork
    {
        public IRingWork? NextPosted { get; set; }

        public void Run() => run();
    }

    /// <summary>Each completion sends the next TRIM.</summary>
    private sealed unsafe class TrimSeries(NbdConnectionPool pool, int count) : NbdCompletion
    {
        private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _left = count;

        internal Task Run()
        {
            Assert.Equal(Errno.None, pool.Trim(0, 1, NbdCommandFlags.None, this));
            return _ended.Task;
        }

        protected internal override void OnCompleted(Errno outcome, byte* data)
        {
            if (outcome == Errno.None && --_left > 0)
            {
                _ = pool.Trim(0, 1, NbdCommandFlags.None, this);
            }
            else
            {
                _ended.SetResult();
            }
        }
    }

    /// <summary>A TRIM that is sent again, by its completion, when it fails.</summary>
    private sealed unsafe class RepeatedTrim(NbdConnectionPool pool) : NbdCompletion
    {
        private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);

        internal Task<Errno> Run()
        {
            Assert.Equal(Errno.None, pool.Trim(0, 1, NbdCommandFlags.None, this));
            return _outcome.Task;
        }

        protected internal override void OnCompleted(Errno outcome, byte* data)
        {
            Errno again = outcome == Errno.None ? outcome : pool.Trim(0, 1, NbdCommandFlags.None, this);
            if (outcome == Errno.None || again != Errno.None)
            {
                _outcome.TrySetResult(again);
            }
        }
    }
}
