using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>
/// Servers that break the rules of the transmission phase: the connection ends with a reason that names the rule,
/// every command completes once, and no wrong byte passes as data.
/// </summary>
public sealed unsafe class TransmissionFaultTests
{
    private const ulong Offset = 8192;
    private const uint Length = 4096;

    /// <summary>What the server sends for a READ (of Length at Offset) and a FLUSH that are both in flight.</summary>
    private static readonly Dictionary<string, (Func<FakeRequest, FakeRequest, string> Reply, string Message)> s_cases =
        new()
        {
            ["wrong magic"] = ((r, f) => "deadbeef" + Frame.Zeroes(16), "starts with 0xdeadbeef"),
            ["request magic"] = ((r, f) => "25609513" + Frame.Zeroes(24), "starts with 0x25609513"),
            ["extended reply"] = ((r, f) => "6e8a278c" + Frame.Zeroes(28), "starts with 0x6e8a278c"),
            ["simple reply, unknown cookie"] =
                ((r, f) => Frame.SimpleReply(0, 0x1234567890), "not in flight (cookie 0x0000001234567890)"),
            ["error, unknown cookie"] = ((r, f) => Frame.SimpleReply(5, ulong.MaxValue), "not in flight"),
            ["chunk, unknown cookie"] = ((r, f) => Frame.Chunk(true, 0, r.Cookie + 4096), "not in flight"),
            ["cookie of an older command"] = ((r, f) => Frame.SimpleReply(5, r.Cookie - (1ul << 32)), "not in flight"),
            ["cookie of a later command"] = ((r, f) => Frame.SimpleReply(5, r.Cookie + (1ul << 32)), "not in flight"),
            ["simple reply to READ"] = ((r, f) => Frame.SimpleReply(0, r.Cookie), "READ with a simple reply"),
            ["data before"] = ((r, f) => Chunk(r, true, -1, 10), "8191"),
            ["data after"] = ((r, f) => Chunk(r, true, 4095, 2), "12287"),
            ["data far after"] = ((r, f) => Chunk(r, true, 1L << 40, 2), "READ"),
            ["data at the end of the number range"] =
                ((r, f) => Frame.DataChunk(true, r.Cookie, ulong.MaxValue, new byte[2]), "READ"),
            ["data too long"] = ((r, f) => Chunk(r, true, 0, 4097), "data chunk of 4105 bytes"),
            ["data of no bytes"] = ((r, f) => Chunk(r, true, 0, 0), "data chunk of 8 bytes"),
            ["data without offset"] = ((r, f) => Frame.Chunk(true, 1, r.Cookie), "data chunk of 0 bytes"),
            ["data of 4 GiB"] =
                ((r, f) => Frame.ChunkHeader(true, 1, r.Cookie, uint.MaxValue), "data chunk of 4294967295 bytes"),
            ["data of 64 MiB"] =
                ((r, f) => Frame.ChunkHeader(true, 1, r.Cookie, 64 << 20), "data chunk of 67108864 bytes"),
            ["data twice"] = ((r, f) => Chunk(r, false, 0, 100) + Chunk(r, true, 0, 100), "twice"),
            ["data overlaps by a byte"] = ((r, f) => Chunk(r, false, 0, 2048) + Chunk(r, true, 2047, 2049), "twice"),
            ["data overlaps, out of order"] =
                ((r, f) => Chunk(r, false, 2048, 2048) + Chunk(r, true, 1, 2048), "twice"),
            ["hole over data"] =
                ((r, f) => Chunk(r, false, 0, 4096) + Frame.HoleChunk(true, r.Cookie, Offset + 1, 1), "twice"),
            ["data over hole"] =
                ((r, f) => Frame.HoleChunk(false, r.Cookie, Offset, Length) + Chunk(r, true, 4095, 1), "twice"),
            ["data, then a hole over all"] =
                ((r, f) => Chunk(r, false, 0, 1) + Frame.HoleChunk(true, r.Cookie, Offset, Length), "twice"),
            ["all, then all again"] =
                ((r, f) => Chunk(r, false, 0, 4096) + Chunk(r, true, 0, 4096), "twice"),
            ["gap of a byte"] = ((r, f) => Chunk(r, false, 0, 2047) + Chunk(r, true, 2048, 2048), "without all"),
            ["gap at the start"] = ((r, f) => Chunk(r, true, 1, 4095), "without all"),
            ["gap at the end"] = ((r, f) => Chunk(r, true, 0, 4095), "without all"),
            ["overlap that makes up for a gap"] =
                ((r, f) => Chunk(r, false, 0, 2048) + Chunk(r, true, 0, 2048), "twice"),
            ["end without data"] = ((r, f) => Frame.Chunk(true, 0, r.Cookie), "without all"),
            ["none without done"] = ((r, f) => Frame.Chunk(false, 0, r.Cookie), "type 0"),
            ["none with data"] = ((r, f) => Frame.Chunk(true, 0, r.Cookie, "00"), "type 0 and 1 bytes"),
            ["hole of no bytes"] = ((r, f) => Frame.HoleChunk(true, r.Cookie, Offset, 0), "READ"),
            ["hole past the end"] = ((r, f) => Frame.HoleChunk(true, r.Cookie, Offset, Length + 1), "READ"),
            ["hole before"] = ((r, f) => Frame.HoleChunk(true, r.Cookie, Offset - 1, 1), "READ"),
            ["hole of 4 GiB"] = ((r, f) => Frame.HoleChunk(true, r.Cookie, Offset, uint.MaxValue), "READ"),
            ["hole chunk too short"] =
                ((r, f) => Frame.Chunk(true, 2, r.Cookie, Frame.Zeroes(11)), "hole chunk of 11 bytes"),
            ["hole chunk too long"] =
                ((r, f) => Frame.Chunk(true, 2, r.Cookie, Frame.Zeroes(13)), "hole chunk of 13 bytes"),
            ["data for FLUSH"] = ((r, f) => Frame.DataChunk(true, f.Cookie, 0, new byte[1]), "Flush with a chunk"),
            ["hole for FLUSH"] = ((r, f) => Frame.HoleChunk(true, f.Cookie, 0, 1), "Flush with a chunk"),
            ["block status unasked"] = ((r, f) => Frame.Chunk(true, 5, r.Cookie, Frame.Zeroes(12)), "type 5"),
            ["extended block status"] = ((r, f) => Frame.Chunk(true, 6, r.Cookie, Frame.Zeroes(24)), "type 6"),
            ["unknown chunk"] = ((r, f) => Frame.Chunk(true, 77, r.Cookie), "type 77"),
            ["error chunk too short"] = ((r, f) => Frame.Chunk(true, 0x8001, r.Cookie, Frame.Zeroes(5)), "error chunk"),
            ["error chunk too long"] =
                ((r, f) => Frame.ChunkHeader(true, 0x8001, r.Cookie, 1 << 20), "of 1048576 bytes"),
            ["error 0"] = ((r, f) => Frame.ErrorChunk(true, r.Cookie, 0), "error chunk with error 0"),
            ["error text longer than its chunk"] =
                ((r, f) => Frame.Chunk(true, 0x8001, r.Cookie, Frame.U32(5) + Frame.U16(3) + "4142"), "text of 3"),
            ["error offset too short"] =
                ((r, f) => Frame.Chunk(
                    true, 0x8002, r.Cookie, Frame.U32(5) + Frame.U16(0) + Frame.Zeroes(7)), "error chunk"),
            ["error offset swallowed by the text"] =
                ((r, f) => Frame.Chunk(
                    true, 0x8002, r.Cookie, Frame.U32(5) + Frame.U16(1) + Frame.Zeroes(8)), "text of 1"),
            ["error without end, for ever"] =
                ((r, f) => string.Concat(Enumerable.Repeat(Frame.ErrorChunk(false, r.Cookie, 5), 5000)), "error chunk"),
        };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_broken_rule_ends_the_connection_and_fails_what_is_in_flight(string name)
    {
        (Func<FakeRequest, FakeRequest, string> reply, string message) = s_cases[name];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest warmUp = peer.ReceiveRequest();
            peer.Send(Frame.SimpleReply(0, warmUp.Cookie));
            (FakeRequest read, FakeRequest flush) = (peer.ReceiveRequest(), peer.ReceiveRequest());
            peer.Send(reply(read, flush));
            peer.Drain();
        });
        ConcurrentQueue<NbdException> lost = [];
        RecordedCompletion read;
        RecordedCompletion flush = new();
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            pool.ConnectionLost = lost.Enqueue;
            RecordedCompletion warmUp = new();
            Assert.Equal(Errno.None, pool.Flush(warmUp));
            Assert.Equal(Errno.None, warmUp.Outcome);
            read = TransmissionTests.Read(pool, Offset, Length);
            Assert.Equal(Errno.None, pool.Flush(flush));

            Assert.Equal(Errno.EIO, read.Outcome);
            Assert.Equal(Errno.EIO, flush.Outcome);
        }

        server.Finish();
        Assert.Null(read.Data);
        Assert.Equal(1, read.Calls);
        Assert.Equal(1, flush.Calls);
        NbdException reason = Assert.Single(lost);
        Assert.IsType<NbdProtocolException>(reason);
        Assert.Contains(message, reason.Message);
        Assert.Contains("unix:", reason.Message);
    }

    [Fact]
    public void A_reply_that_comes_twice_ends_the_connection()
    {
        Func<FakeRequest, string>[] replies =
        [
            flush => Frame.SimpleReply(0, flush.Cookie) + Frame.SimpleReply(0, flush.Cookie),
            flush => Frame.Chunk(true, 0, flush.Cookie) + Frame.Chunk(true, 0, flush.Cookie),
            flush => Frame.SimpleReply(5, flush.Cookie) + Frame.ErrorChunk(true, flush.Cookie, 5),
        ];
        foreach (Func<FakeRequest, string> reply in replies)
        {
            using FakeNbdServer server = new(peer =>
            {
                peer.Handshake();
                _ = peer.ReceiveRequest();
                peer.Send(reply(peer.ReceiveRequest()));
                peer.Drain();
            });
            using NbdConnectionPool pool = TransmissionTests.Connect(server);
            using BlockingCollection<NbdException> lost = [];
            pool.ConnectionLost = lost.Add;
            RecordedCompletion read = TransmissionTests.Read(pool, 0, 512);
            RecordedCompletion flush = new();
            Assert.Equal(Errno.None, pool.Flush(flush));

            Assert.Equal(Errno.EIO, read.Outcome);
            Assert.True(lost.TryTake(out NbdException? reason, FakeNbdServer.TimeLimit));
            Assert.Contains("not in flight", reason.Message);
            Assert.Equal(1, flush.Calls);
        }
    }

    [Fact]
    public void The_cookie_of_an_earlier_command_is_never_that_of_a_later_one()
    {
        // More than there are slots at first, so that slots are used again.
        const int Commands = 200;
        HashSet<ulong> cookies = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            for (int i = 0; i < Commands; i++)
            {
                ulong cookie = peer.ReceiveRequest().Cookie;
                Assert.True(cookies.Add(cookie), "a cookie came twice");
                peer.Send(Frame.SimpleReply(0, cookie));
            }

            FakeRequest last = peer.ReceiveRequest();
            ulong earlier = cookies.First(cookie => (uint)cookie == (uint)last.Cookie);
            peer.Send(Frame.SimpleReply(0, earlier));
            peer.Drain();
        });
        using (NbdConnectionPool pool = TransmissionTests.Connect(server))
        {
            for (int i = 0; i < Commands; i++)
            {
                TransmissionTests.Run(pool.Flush);
            }

            TransmissionTests.Run(pool.Flush, Errno.EIO);
        }

        server.Finish();
    }

    [Fact]
    public void An_answer_to_a_write_that_was_not_sent_whole_ends_the_connection()
    {
        // More than socket and server take.
        byte[] payload = GC.AllocateArray<byte>(32 << 20, pinned: true);
        using ManualResetEventSlim isLost = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(64 << 20);
            _ = peer.Receive(4);
            peer.Send(Frame.SimpleReply(0, BinaryPrimitives.ReadUInt64BigEndian(peer.Receive(24).AsSpan(4))));
            Assert.True(isLost.Wait(FakeNbdServer.TimeLimit));
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);
        using BlockingCollection<NbdException> lost = [];
        pool.ConnectionLost = lost.Add;
        RecordedCompletion write = new();
        Assert.Equal(
            Errno.None,
            pool.Write(0, (byte*)Marshal.UnsafeAddrOfPinnedArrayElement(payload, 0), 32 << 20, NbdCommandFlags.None, write));

        Assert.True(lost.TryTake(out NbdException? reason, FakeNbdServer.TimeLimit));
        Assert.Contains("answered a command before it was sent", reason.Message);
        isLost.Set();
        Assert.Equal(1, write.Calls);
        server.Finish();
    }

    [Fact]
    public void A_structured_reply_that_was_not_agreed_on_ends_the_connection()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(structured: false);
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(TransmissionTests.Data(read, 0, 512, true));
            peer.Drain();
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);

        Assert.Equal(Errno.EIO, TransmissionTests.Read(pool, 0, 512).Outcome);
    }

    [Fact]
    public void The_end_of_the_stream_within_a_reply_never_makes_data()
    {
        foreach (bool structured in new[] { false, true })
        {
            for (int cut = 0; cut >= 0; cut++)
            {
                int whole = 0;
                using FakeNbdServer server = new(peer =>
                {
                    peer.Handshake(structured: structured);
                    FakeRequest read = peer.ReceiveRequest();
                    string reply = structured
                        ? TransmissionTests.Data(read, 0, 5, false)
                            + Frame.HoleChunk(false, read.Cookie, read.Offset + 5, 3)
                            + Frame.Chunk(true, 0, read.Cookie)
                        : Frame.SimpleReply(0, read.Cookie) + Frame.Zeroes(8);
                    whole = reply.Length / 2;
                    peer.Send(reply[..Math.Min(2 * cut, reply.Length)]);
                });
                using NbdConnectionPool pool = TransmissionTests.Connect(server);
                RecordedCompletion read = TransmissionTests.Read(pool, 0, 8);
                Errno outcome = read.Outcome;
                server.Finish();
                if (cut == whole)
                {
                    Assert.Equal(Errno.None, outcome);
                    break;
                }

                Assert.Equal(Errno.EIO, outcome);
                Assert.Null(read.Data);
            }
        }
    }

    [Fact]
    public void A_server_that_dies_fails_each_command_in_flight_once()
    {
        const int Connections = 4;
        const int Commands = 200;
        int received = 0;
        using ManualResetEventSlim all = new();
        using FakeNbdServer server = new([.. Enumerable.Repeat<Action<FakePeer>>(
            peer =>
            {
                peer.Handshake(flags: 0x0105);
                for (int i = 0; i < Commands / Connections; i++)
                {
                    _ = peer.ReceiveRequest();
                    if (Interlocked.Increment(ref received) == Commands)
                    {
                        all.Set();
                    }
                }

                all.Wait(FakeNbdServer.TimeLimit);
            },
            Connections)]);
        ConcurrentQueue<NbdException> lost = [];
        RecordedCompletion[] commands;
        using (NbdConnectionPool pool = TransmissionTests.Connect(server, Connections))
        {
            pool.ConnectionLost = lost.Enqueue;
            commands = [.. Enumerable.Range(0, Commands).Select(i => TransmissionTests.Read(pool, (ulong)i, 4096))];

            Assert.All(commands, command => Assert.Equal(Errno.EIO, command.Outcome));
            Assert.True(SpinWait.SpinUntil(() => lost.Count == Connections, FakeNbdServer.TimeLimit));
            RecordedCompletion late = new();
            Assert.Equal(Errno.EIO, pool.Read(0, 1, NbdCommandFlags.None, late));
            Assert.Equal(0, late.Calls);
            Assert.Equal(0, pool.InFlight);
        }

        Assert.All(commands, command => Assert.Equal(1, command.Calls));
    }

    private static string Chunk(FakeRequest read, bool done, long start, int length) =>
        Frame.DataChunk(done, read.Cookie, (ulong)((long)read.Offset + start), new byte[length]);
}
