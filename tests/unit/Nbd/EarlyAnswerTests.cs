using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Threading.Channels;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;
using Tmds.Linux;

namespace UnitTests.Nbd;

/// <summary>
/// A WRITE whose answer is there before we are done with sending it: a quick server does that, when sendmsg(2) has not
/// returned yet, and a hostile one that has not even got the data. The data is the caller's again only afterwards.
/// </summary>
public sealed unsafe class EarlyAnswerTests : IDisposable
{
    private readonly HeldTransport _transport = new();
    private readonly NbdConnection _connection;
    private readonly NativeBuffer _payload = new(1 << 20);
    private readonly BlockingCollection<string> _ends = [];

    public EarlyAnswerTests()
    {
        NbdExport export = new() { Name = "", SizeBytes = 1 << 30, Flags = NbdTransmissionFlags.HasFlags };
        _connection = new NbdConnection(
            _transport, new NegotiatedConnection(export), "fake", (_, reason) => _ends.Add(reason?.Message ?? "closed"));
        _connection.Start();
    }

    public void Dispose()
    {
        _transport.HoldsNothing = true;
        _connection.Dispose();
        _transport.Dispose();
        _payload.Dispose();
        _ends.Dispose();
    }

    [Theory]
    [InlineData(4096, 0, Errno.None)]
    [InlineData(1 << 20, 0, Errno.None)]
    [InlineData(4096, 28, Errno.ENOSPC)]
    public void It_completes_once_all_of_it_was_sent(int length, uint error, Errno outcome)
    {
        RecordedCompletion write = new();
        Thread submitted = Submit(write, length);
        HeldSend send = _transport.NextSend();
        Answer(send, error);
        Assert.Equal(0, write.Calls);
        send.Take(send.Bytes);

        Assert.Equal(outcome, write.Outcome);
        Assert.True(submitted.Join(FakeNbdServer.TimeLimit));
        Assert.Equal(0, _connection.InFlight);
        Assert.Equal(0, _connection.ChangesInFlight);
        // Its slot is as good as new.
        RecordedCompletion next = new();
        _ = Submit(next, length);
        send = _transport.NextSend();
        send.Take(send.Bytes);
        Answer(send, 0);
        Assert.Equal(Errno.None, next.Outcome);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(27)]
    [InlineData(4095)]
    public void It_is_a_violation_when_a_part_was_not_sent(int taken)
    {
        RecordedCompletion write = new();
        _ = Submit(write, 4096);
        HeldSend send = _transport.NextSend();
        Answer(send, 0);
        send.Take(taken);

        Assert.Equal(Errno.EIO, write.Outcome);
        Assert.Contains("answered a command before it was sent", Reason());
    }

    [Fact]
    public void What_was_queued_completes_once_its_rest_was_sent()
    {
        RecordedCompletion write = new();
        _ = Submit(write, 4096);
        HeldSend send = _transport.NextSend();
        send.Take(100);
        // On nbd-tx.
        HeldSend rest = _transport.NextSend();
        Answer(send, 0);
        Assert.Equal(0, write.Calls);
        rest.Take(rest.Bytes);

        Assert.Equal(Errno.None, write.Outcome);
        Assert.Equal(0, _connection.InFlight);
    }

    /// <summary>
    /// Who completes it, the receive thread at its end or the thread pool, is a matter of moments: in many rounds each does.
    /// </summary>
    [Fact]
    public void The_answer_counts_also_when_the_connection_ends_meanwhile()
    {
        for (int i = 0; i < 50; i++)
        {
            using EarlyAnswerTests round = new();
            round.EndAfterAnAnswer();
        }
    }

    private void EndAfterAnAnswer()
    {
        RecordedCompletion write = new();
        // Sent from within an early completion, so that its sender leaves it to others.
        CallingCompletion first = new(() =>
        {
            SubmitHere(write, 4096);
            SpinWait.SpinUntil(() => write.IsCompleted, FakeNbdServer.TimeLimit);
        });
        Thread submitted = Submit(first, 4096);
        HeldSend send = _transport.NextSend();
        Answer(send, 0);
        send.Take(send.Bytes);
        Answer(_transport.NextSend(), 0);
        // The socket, shut down, lets go of the send.
        _transport.Feed([]);

        Assert.Equal(Errno.None, write.Outcome);
        Assert.Contains("closed the connection", Reason());
        Assert.True(submitted.Join(FakeNbdServer.TimeLimit));
        Assert.Equal(1, write.Calls);
    }

    [Fact]
    public void Leaving_waits_for_it()
    {
        RecordedCompletion write = new();
        Thread closed = new(() => _connection.Close(Deadline.After(FakeNbdServer.TimeLimit))) { IsBackground = true };
        // Completed before it, by the same thread: without a lock, so that closing gets as far as to wait for the end.
        CallingCompletion other = new(() =>
        {
            closed.Start();
            SpinWait.SpinUntil(() => closed.ThreadState.HasFlag(ThreadState.WaitSleepJoin));
        });
        _transport.HasRoom.Reset();
        _ = Submit(write, 4096);
        HeldSend send = _transport.NextSend();
        send.Take(100);
        _transport.NextSend().Take(100);
        Assert.True(Submit(other, 4096).Join(FakeNbdServer.TimeLimit));
        _transport.HasRoom.Set();
        HeldSend rest = _transport.NextSend();
        Answer(send, 0);
        rest.Take(rest.Bytes);
        HeldSend next = _transport.NextSend();
        Answer(next, 0);
        next.Take(next.Bytes);

        HeldSend disconnect = _transport.NextSend();
        Assert.Equal(1, write.Calls);
        Assert.Equal(Errno.None, write.Outcome);
        Assert.Equal(NbdRequest.SizeBytes, disconnect.Bytes);
        disconnect.Take(disconnect.Bytes);
        _transport.Feed([]);

        Assert.True(closed.Join(FakeNbdServer.TimeLimit));
        Assert.Equal("closed", Reason());
    }

    [Fact]
    public void A_completion_may_send_the_next_one_without_end()
    {
        const int Writes = 100;
        Repeated write = new(_connection, _payload.Start, Writes);
        Thread submitted = Start(write.Submit);
        for (int i = 0; i < Writes; i++)
        {
            HeldSend send = _transport.NextSend();
            Answer(send, 0);
            send.Take(send.Bytes);
        }

        Assert.True(write.Ended.Wait(FakeNbdServer.TimeLimit, TestContext.Current.CancellationToken));
        Assert.True(submitted.Join(FakeNbdServer.TimeLimit));
        Assert.Equal(1, write.MostNested);
    }

    private static Thread Start(ThreadStart run)
    {
        Thread thread = new(run) { IsBackground = true };
        thread.Start();
        return thread;
    }

    private Thread Submit(NbdCompletion write, int length) => Start(() => SubmitHere(write, length));

    private void SubmitHere(NbdCompletion write, int length) =>
        _ = _connection.Submit(NbdCommandType.Write, NbdCommandFlags.None, 0, (ulong)length, _payload.Start, write);

    /// <summary>Returns when the receive thread has seen the answer, and waits for the next.</summary>
    private void Answer(HeldSend send, uint error)
    {
        byte[] reply = new byte[16];
        BinaryPrimitives.WriteUInt32BigEndian(reply, 0x67446698);
        BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(4), error);
        BinaryPrimitives.WriteUInt64BigEndian(reply.AsSpan(8), send.Cookie);
        _transport.Feed(reply);
        _transport.WaitUntilUsed();
    }

    private string Reason()
    {
        Assert.True(_ends.TryTake(out string? reason, FakeNbdServer.TimeLimit), "the connection did not end");
        return reason;
    }

    private sealed class CallingCompletion(Action completed) : NbdCompletion
    {
        protected internal override void OnCompleted(Errno outcome, byte* data) => completed();
    }

    /// <summary>A WRITE that is sent again by its completion.</summary>
    private sealed class Repeated(NbdConnection connection, byte* payload, int count) : NbdCompletion
    {
        [ThreadStatic]
        private static int s_nested;

        private int _left = count;

        internal ManualResetEventSlim Ended { get; } = new();

        internal int MostNested { get; private set; }

        internal void Submit()
        {
            _left--;
            _ = connection.Submit(NbdCommandType.Write, NbdCommandFlags.None, 0, 4096, payload, this);
        }

        protected internal override void OnCompleted(Errno outcome, byte* data)
        {
            MostNested = Math.Max(MostNested, ++s_nested);
            if (_left > 0)
            {
                Submit();
            }
            else
            {
                Ended.Set();
            }

            s_nested--;
        }
    }

    /// <summary>A call of Send that returns when the test says so.</summary>
    private sealed class HeldSend(ulong cookie, int bytes)
    {
        private readonly TaskCompletionSource<int> _taken = new();

        internal ulong Cookie => cookie;

        internal int Bytes => bytes;

        internal void Take(int taken) => _taken.TrySetResult(taken);

        internal int Wait() => _taken.Task.Wait(FakeNbdServer.TimeLimit) ? _taken.Task.Result : bytes;
    }

    private sealed class HeldTransport : ConnectionTransport
    {
        private readonly Channel<HeldSend> _sends = Channel.CreateUnbounded<HeldSend>();
        private readonly Channel<byte[]> _received = Channel.CreateUnbounded<byte[]>();
        private volatile HeldSend? _current;
        private int _fed;
        private int _waits;

        /// <summary>The test is over.</summary>
        internal bool HoldsNothing { get; set; }

        internal ManualResetEventSlim HasRoom { get; } = new(true);

        internal HeldSend NextSend() => Next(_sends, FakeNbdServer.TimeLimit);

        /// <summary>What the server sends; nothing for the end.</summary>
        internal void Feed(byte[] bytes)
        {
            _fed++;
            _ = _received.Writer.TryWrite(bytes);
        }

        internal void WaitUntilUsed() => Assert.True(
            SpinWait.SpinUntil(() => Volatile.Read(ref _waits) > _fed, FakeNbdServer.TimeLimit), "nobody receives");

        internal override Errno Send(iovec* parts, int count, bool mayWait, out int sent)
        {
            int bytes = 0;
            for (int i = 0; i < count; i++)
            {
                bytes += (int)(ulong)parts[i].iov_len;
            }

            ulong cookie = (ulong)parts[0].iov_len < 16
                ? 0
                : BinaryPrimitives.ReadUInt64BigEndian(new ReadOnlySpan<byte>((byte*)parts[0].iov_base + 8, 8));
            HeldSend send = new(cookie, bytes);
            if (HoldsNothing)
            {
                sent = bytes;
                return Errno.None;
            }

            _current = send;
            _ = _sends.Writer.TryWrite(send);
            sent = send.Wait();
            return Errno.None;
        }

        internal override void WaitForRoom() => HasRoom.Wait(FakeNbdServer.TimeLimit);

        internal override Errno Receive(byte* destination, int length, bool all, out int received)
        {
            Interlocked.Increment(ref _waits);
            byte[] bytes = Next(_received, Timeout.InfiniteTimeSpan);
            bytes.CopyTo(new Span<byte>(destination, length));
            received = bytes.Length;
            return Errno.None;
        }

        internal override void EndSending()
        {
        }

        internal override void Shutdown()
        {
            _ = _received.Writer.TryWrite([]);
            _current?.Take(_current.Bytes);
        }

        public override void Dispose()
        {
        }

        private static T Next<T>(Channel<T> channel, TimeSpan limit)
        {
            Task<T> next = channel.Reader.ReadAsync().AsTask();
            Assert.True(next.Wait(limit), $"no {typeof(T).Name} within {limit}");
            return next.Result;
        }
    }
}
