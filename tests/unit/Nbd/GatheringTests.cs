using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>What is submitted for several replies goes out together, and soon.</summary>
public sealed class GatheringTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void What_completions_submit_is_sent_once_all_replies_are_used()
    {
        FakePeer? connected = null;
        List<int> unread = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            connected = peer;
            Answer(peer, peer.ReceiveRequest(), peer.ReceiveRequest(), peer.ReceiveRequest());
            (FakeRequest first, FakeRequest second) = (peer.ReceiveRequest(), peer.ReceiveRequest());
            Assert.Equal([1ul, 2ul], new[] { first.Offset, second.Offset }.Order());
            Answer(peer, first, second);
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            RecordedCompletion[] next = [new(), new()];
            Submit(pool, 0, () => Assert.Equal(Errno.None, pool.Cache(1, 1, next[0])));
            Submit(pool, 0, () => Assert.Equal(Errno.None, pool.Cache(2, 1, next[1])));
            Submit(pool, 0, () => unread.Add(connected!.UnreadBytes));
            Assert.All(next, completion => Assert.Equal(Errno.None, completion.Outcome));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
        Assert.Equal([0], unread);
    }

    [Fact]
    public void While_large_replies_are_there_commands_are_gathered_up_to_half_of_those_in_flight()
    {
        const uint Large = 64 << 10;
        FakePeer? connected = null;
        using ManualResetEventSlim sent = new();
        using ManualResetEventSlim counted = new();
        List<int> unread = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            connected = peer;
            FakeRequest[] reads = [.. Enumerable.Range(0, 4).Select(_ => peer.ReceiveRequest())];
            peer.Send(Reply(reads[0]));
            peer.Send(Reply(reads[1]) + Reply(reads[2]));
            sent.Set();
            Assert.True(counted.Wait(FakeNbdServer.TimeLimit));
            peer.Send(Reply(reads[3]));
            Answer(peer, peer.ReceiveRequest(), peer.ReceiveRequest(), peer.ReceiveRequest());
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            RecordedCompletion[] next = [new(), new(), new()];
            RecordedCompletion last = new((int)Large);
            Read(0, () => Assert.True(sent.Wait(FakeNbdServer.TimeLimit)));
            Read(1, () => unread.Add(connected!.UnreadBytes));
            Read(2, () =>
            {
                unread.Add(connected!.UnreadBytes);
                counted.Set();
            });
            Assert.Equal(Errno.None, pool.Read(3 * Large, Large, NbdCommandFlags.None, last));
            Assert.Equal(Errno.None, last.Outcome);
            Assert.All(next, completion => Assert.Equal(Errno.None, completion.Outcome));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));

            void Read(int i, Action completed) => Assert.Equal(Errno.None, pool.Read(
                (ulong)i * Large,
                Large,
                NbdCommandFlags.None,
                new CallingCompletion(() =>
                {
                    completed();
                    Assert.Equal(Errno.None, pool.Cache((ulong)i, 1, next[i]));
                })));
        }

        server.Finish();

        // Of four in flight one is gathered, two are sent.
        Assert.Equal([0, 2 * NbdRequest.SizeBytes], unread);

        static string Reply(FakeRequest request) => TransmissionTests.Data(request, 0, request.Length, true);
    }

    [Fact]
    public unsafe void A_batch_that_the_socket_does_not_take_is_sent_when_the_server_reads_on()
    {
        const int Writes = 400;
        const int Bytes = 30_000;
        using ManualResetEventSlim submitted = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest[] first = [.. Enumerable.Range(0, Writes).Select(_ => peer.ReceiveRequest())];
            Answer(peer, first);
            Assert.True(submitted.Wait(FakeNbdServer.TimeLimit));
            for (int i = 0; i < Writes; i++)
            {
                FakeRequest write = peer.ReceiveRequest();
                Assert.Equal((ulong)i * Bytes, write.Offset);
                Assert.Equal(TransmissionTests.Pattern(write.Offset, Bytes), write.Payload);
                Answer(peer, write);
            }

            Answer(peer, peer.ReceiveRequest());
            peer.ExpectDisconnect();
        });
        byte[] data = GC.AllocateArray<byte>(Writes * Bytes, pinned: true);
        TransmissionTests.Pattern(0, Writes * Bytes).CopyTo(data, 0);
        fixed (byte* start = data)
        {
            nint payload = (nint)start;
            using NbdConnectionPool pool = TransmissionTests.Connect(server);
            RecordedCompletion[] writes = [.. Enumerable.Range(0, Writes).Select(_ => new RecordedCompletion())];
            int submissions = 0;
            for (int i = 0; i < Writes; i++)
            {
                Submit(pool, 0, () =>
                {
                    ulong offset = (ulong)submissions * Bytes;
                    Assert.Equal(
                        Errno.None,
                        pool.Write(offset, (byte*)payload + offset, Bytes, NbdCommandFlags.None, writes[submissions]));
                    if (++submissions == Writes)
                    {
                        submitted.Set();
                    }
                });
            }

            Assert.All(writes, write => Assert.Equal(Errno.None, write.Outcome));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
    }

    [Fact]
    public async Task Callers_that_block_hold_up_neither_each_other_nor_their_commands()
    {
        const int Callers = 8;
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            for (int round = 0; round < 2; round++)
            {
                // All answers at once: a caller that waited for another's, or whose command was not sent, would never go on.
                Answer(peer, [.. Enumerable.Range(0, Callers).Select(_ => peer.ReceiveRequest())]);
            }

            Answer(peer, peer.ReceiveRequest());
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            await Task.WhenAll(Enumerable.Range(0, Callers).Select(i => Task.Run(async () =>
            {
                await client.WriteAsync(i, new byte[1], cancellationToken: Token).ConfigureAwait(false);
                Assert.True(Thread.CurrentThread.IsThreadPoolThread);
                Assert.True(
                    client.WriteAsync(i, new byte[1], cancellationToken: Token).AsTask().Wait(FakeNbdServer.TimeLimit));
            }))).WaitAsync(FakeNbdServer.TimeLimit, Token);
        }

        server.Finish();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Callers_that_were_answered_before_the_server_broke_a_rule_go_on(bool synchronous)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest first = peer.ReceiveRequest();
            FakeRequest second = peer.ReceiveRequest();
            peer.Send(TransmissionTests.Data(first, 0, first.Length, true) + Frame.SimpleReply(0, second.Cookie + 99));
            peer.Drain();
        });
        await using NbdClient client = await NbdClientTests.ConnectAsync(
            server, new NbdClientOptions { AllowSynchronousContinuations = synchronous });
        byte[] read = new byte[10];
        Task first = client.ReadAsync(5, read, Token).AsTask();
        Task second = client.ReadAsync(6, new byte[1], Token).AsTask();
        await first.WaitAsync(FakeNbdServer.TimeLimit, Token);
        Assert.Equal(TransmissionTests.Pattern(5, 10), read);
        NbdException lost = await Assert.ThrowsAsync<NbdException>(
            () => second.WaitAsync(FakeNbdServer.TimeLimit, Token));
        Assert.Equal(Errno.EIO, lost.Errno);
        server.Finish();
    }

    private static void Answer(FakePeer peer, params FakeRequest[] requests) =>
        peer.Send(string.Concat(requests.Select(request => Frame.SimpleReply(0, request.Cookie))));

    private static void Submit(NbdConnectionPool pool, ulong offset, Action completed) =>
        Assert.Equal(Errno.None, pool.Cache(offset, 1, new CallingCompletion(completed)));

    private sealed class CallingCompletion(Action completed) : NbdCompletion
    {
        protected internal override unsafe void OnCompleted(Errno outcome, byte* data)
        {
            Assert.Equal(Errno.None, outcome);
            completed();
        }
    }
}
