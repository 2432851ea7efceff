using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Commands and well-formed replies on the level of <see cref="NbdConnectionPool"/>.</summary>
public sealed unsafe class TransmissionTests
{
    [Fact]
    public void Commands_look_as_the_specification_draws_them()
    {
        List<FakeRequest> requests = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            for (int i = 0; i < 6; i++)
            {
                FakeRequest request = peer.ReceiveRequest();
                requests.Add(request);
                peer.Send(Frame.SimpleReply(request.Type == 0 ? 5u : 0, request.Cookie));
            }

            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = Connect(server))
        {
            byte[] data = GC.AllocateArray<byte>(3, pinned: true);
            (data[0], data[1], data[2]) = (1, 2, 3);
            byte* start = Address(data);
            Run(c => pool.Read(0x1122334455, 7, NbdCommandFlags.DontFragment, c), Errno.EIO);
            Run(c => pool.Write(1, start, 3, NbdCommandFlags.ForceUnitAccess, c));
            Run(c => pool.Trim(2, uint.MaxValue, NbdCommandFlags.None, c));
            Run(c => pool.WriteZeroes(3, 5, NbdCommandFlags.NoHole | NbdCommandFlags.FastZero, c));
            Run(c => pool.Cache(4, 6, c));
            Run(c => pool.Flush(c));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
        Assert.Equal(
            [
                (4, 0, 0x1122334455ul, 7u, ""), (1, 1, 1ul, 3u, "010203"), (0, 4, 2ul, uint.MaxValue, ""),
                (2 | 16, 6, 3ul, 5u, ""), (0, 5, 4ul, 6u, ""), (0, 3, 0ul, 0u, ""),
            ],
            requests.Select(r => (r.Flags, r.Type, r.Offset, r.Length, Frame.Bytes(r.Payload))));
    }

    [Fact]
    public void A_server_that_shuts_down_is_left_once_everything_is_answered()
    {
        using ManualResetEventSlim refused = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(structured: false);
            (FakeRequest first, FakeRequest second) = (peer.ReceiveRequest(), peer.ReceiveRequest());
            peer.Send(Frame.SimpleReply(108, first.Cookie));
            Assert.True(refused.Wait(FakeNbdServer.TimeLimit));
            peer.Send(Frame.SimpleReply(0, second.Cookie));
            peer.ExpectDisconnect();
        });
        using NbdConnectionPool pool = Connect(server);
        using BlockingCollection<string> losses = [];
        pool.ConnectionLost = reason => losses.Add(reason.Message);
        (RecordedCompletion first, RecordedCompletion second) = (new(), new());
        Assert.Equal(Errno.None, pool.Flush(first));
        Assert.Equal(Errno.None, pool.Trim(0, 1, NbdCommandFlags.None, second));

        Assert.Equal(Errno.ESHUTDOWN, first.Outcome);
        Assert.Equal(Errno.EIO, pool.Read(0, 1, NbdCommandFlags.None, new RecordedCompletion()));
        refused.Set();
        Assert.Equal(Errno.None, second.Outcome);
        server.Finish();
        Assert.True(losses.TryTake(out string? loss, FakeNbdServer.TimeLimit));
        Assert.Contains("shutting down", loss, StringComparison.Ordinal);
    }

    [Fact]
    public void Simple_replies_may_come_in_any_order()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(structured: false);
            FakeRequest[] requests = [peer.ReceiveRequest(), peer.ReceiveRequest(), peer.ReceiveRequest()];
            Assert.Equal(3, requests.Select(r => r.Cookie).Distinct().Count());
            foreach (FakeRequest request in requests.Reverse())
            {
                peer.Send(Frame.SimpleReply(0, request.Cookie) + Frame.Bytes(Pattern(request.Offset, request.Length)));
            }

            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server);
        RecordedCompletion[] reads = [Read(pool, 0, 512), Read(pool, 100, 1), Read(pool, 4096, 65536)];

        AssertPattern(reads[0], 0, 512);
        AssertPattern(reads[1], 100, 1);
        AssertPattern(reads[2], 4096, 65536);
    }

    [Fact]
    public void Answers_without_data_may_be_simple_or_structured()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            peer.Send(Frame.Chunk(true, 0, peer.ReceiveRequest().Cookie));
            peer.Send(Frame.SimpleReply(28, peer.ReceiveRequest().Cookie));
            peer.Send(Frame.ErrorChunk(true, peer.ReceiveRequest().Cookie, 28, "full"));
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server);

        Run(c => pool.Trim(0, 1, 0, c));
        Run(c => pool.Trim(0, 1, 0, c));
        Run(c => pool.Trim(0, 1, 0, c), Errno.ENOSPC);
        Run(c => pool.Trim(0, 1, 0, c), Errno.ENOSPC);
    }

    [Theory]
    [InlineData(1, Errno.EPERM)]
    [InlineData(5, Errno.EIO)]
    [InlineData(12, Errno.ENOMEM)]
    [InlineData(22, Errno.EINVAL)]
    [InlineData(28, Errno.ENOSPC)]
    [InlineData(75, Errno.EOVERFLOW)]
    [InlineData(95, Errno.EOPNOTSUPP)]
    [InlineData(38, Errno.EINVAL)]
    [InlineData(4096, Errno.EINVAL)]
    [InlineData(uint.MaxValue, Errno.EINVAL)]
    public void Errors_of_the_server_fail_the_command_and_nothing_else(uint error, Errno errno)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest request = peer.ReceiveRequest();
            peer.Send(Frame.SimpleReply(error, request.Cookie));
            request = peer.ReceiveRequest();
            peer.Send(Frame.ErrorChunk(true, request.Cookie, error, "text"));
            request = peer.ReceiveRequest();
            // An error at an offset, data before and after it; the first error wins.
            peer.Send(Data(request, 0, 100, false));
            peer.Send(Frame.Chunk(
                false, 0x8002, request.Cookie, Frame.U32(error) + Frame.U16(2) + "4142" + Frame.U64(request.Offset)));
            peer.Send(Data(request, 100, 412, false) + Frame.ErrorChunk(true, request.Cookie, 5));
            request = peer.ReceiveRequest();
            // An error of a kind that comes after this program.
            peer.Send(Frame.Chunk(true, 0x8abc, request.Cookie, Frame.U32(error) + Frame.U16(0) + "abcdef"));
            request = peer.ReceiveRequest();
            peer.Send(Data(request, 0, 512, true));
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server);

        for (int i = 0; i < 4; i++)
        {
            RecordedCompletion failed = Read(pool, 0, 512);
            Assert.Equal(errno, failed.Outcome);
            Assert.Null(failed.Data);
        }

        AssertPattern(Read(pool, 0, 512), 0, 512);
    }

    [Fact]
    public void Nothing_is_left_of_the_commands_before()
    {
        // Slots and the memory of answers in pieces are used again and again.
        const int Rounds = 100;
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            for (int i = 0; i < Rounds; i++)
            {
                FakeRequest request = peer.ReceiveRequest();
                peer.Send(Frame.ErrorChunk(false, request.Cookie, 5) + Data(request, 0, 512, true));
                request = peer.ReceiveRequest();
                peer.Send(Frame.ErrorChunk(false, request.Cookie, 5));
                peer.Send(Frame.HoleChunk(true, request.Cookie, request.Offset, 512));
                request = peer.ReceiveRequest();
                peer.Send(Data(request, 0, 12, false) + Data(request, 12, 500, true));
                request = peer.ReceiveRequest();
                peer.Send(Data(request, 0, 12, false) + Frame.HoleChunk(true, request.Cookie, request.Offset + 12, 500));
            }

            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server);
        byte[] dataAndHole = Pattern(0, 512);
        dataAndHole.AsSpan(12).Clear();
        for (int i = 0; i < Rounds; i++)
        {
            Assert.Equal(Errno.EIO, Read(pool, 0, 512).Outcome);
            Assert.Equal(Errno.EIO, Read(pool, 0, 512).Outcome);
            AssertPattern(Read(pool, 0, 512), 0, 512);
            RecordedCompletion last = Read(pool, 0, 512);
            Assert.Equal(Errno.None, last.Outcome);
            Assert.Equal(dataAndHole, last.Data);
        }
    }

    [Fact]
    public void Replies_are_received_while_the_server_does_not_read()
    {
        const int Writes = 16;
        const int Length = 1024 * 1024;
        using ManualResetEventSlim answered = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(size: Length);
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(Data(read, 0, 512, true));
            Assert.True(answered.Wait(FakeNbdServer.TimeLimit), "the READ was not completed");
            for (int i = 0; i < Writes; i++)
            {
                FakeRequest write = peer.ReceiveRequest();
                Assert.Equal(Pattern(0, Length), write.Payload);
                peer.Send(Frame.SimpleReply(0, write.Cookie));
            }
        });
        using (NbdConnectionPool pool = Connect(server))
        {
            RecordedCompletion read = Read(pool, 0, 512);
            RecordedCompletion[] writes = new RecordedCompletion[Writes];
            byte[] data = GC.AllocateArray<byte>(Length, pinned: true);
            Pattern(0, Length).CopyTo(data, 0);
            for (int i = 0; i < Writes; i++)
            {
                writes[i] = new RecordedCompletion();
                Assert.Equal(Errno.None, pool.Write(0, Address(data), Length, 0, writes[i]));
            }

            AssertPattern(read, 0, 512);
            answered.Set();
            Assert.All(writes, write => Assert.Equal(Errno.None, write.Outcome));
            Assert.Equal(0, pool.InFlight);
        }

        server.Finish();
    }

    internal static byte[] Pattern(ulong offset, uint length)
    {
        byte[] bytes = new byte[length];
        for (uint i = 0; i < length; i++)
        {
            ulong position = offset + i;
            bytes[i] = (byte)((position * 7) ^ (position >> 8) ^ 0x5a);
        }

        return bytes;
    }

    /// <summary>A data chunk with the pattern of a part of the request.</summary>
    internal static string Data(FakeRequest request, uint start, uint length, bool done) => Frame.DataChunk(
        done, request.Cookie, request.Offset + start, Pattern(request.Offset + start, length));

    internal static NbdConnectionPool Connect(FakeNbdServer server, int connections = 1) => NbdConnectionPool.Connect(
        server.Endpoint, "", new NbdClientOptions { Connections = connections }, CancellationToken.None);

    internal static RecordedCompletion Read(NbdConnectionPool pool, ulong offset, uint length)
    {
        RecordedCompletion completion = new((int)length);
        Assert.Equal(Errno.None, pool.Read(offset, length, NbdCommandFlags.None, completion));
        return completion;
    }

    private static byte* Address(byte[] pinned) => (byte*)Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0);

    internal static void AssertPattern(RecordedCompletion read, ulong offset, uint length)
    {
        Assert.Equal(Errno.None, read.Outcome);
        Assert.Equal(Pattern(offset, length), read.Data);
    }

    internal static void Run(Func<RecordedCompletion, Errno> submit, Errno outcome = Errno.None)
    {
        RecordedCompletion completion = new();
        Assert.Equal(Errno.None, submit(completion));
        Assert.Equal(outcome, completion.Outcome);
    }
}
