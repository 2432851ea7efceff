using System.Collections.Concurrent;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Commands and replies of 32-byte headers.</summary>
public sealed unsafe class ExtendedHeaderTests
{
    private const ulong Offset = 8192;
    private const uint Length = 4096;

    private static readonly Dictionary<string, (Func<FakeRequest, string> Reply, string Message)> s_cases = new()
    {
        ["simple reply"] = (r => Frame.SimpleReply(0, r.Cookie) + Frame.Zeroes(16), "starts with 0x67446698"),
        ["structured reply"] = (r => Frame.Chunk(true, 0, r.Cookie) + Frame.Zeroes(12), "starts with 0x668e33ef"),
        ["another offset"] =
            (r => Frame.ExtendedHeader(true, 1, r.Cookie, Offset - 1, 9) + Frame.U64(Offset) + "00", "offset 8191"),
        ["unknown cookie"] = (r => Frame.ExtendedHeader(true, 0, r.Cookie + 1, Offset, 0), "not in flight"),
        ["none with data"] = (r => Frame.AnyChunk(r, true, 0, "00"), "type 0 and 1 bytes"),
        ["none without done"] = (r => Frame.AnyChunk(r, false, 0), "type 0 and 0 bytes"),
        ["none of 2^32 bytes"] =
            (r => Frame.ExtendedHeader(true, 0, r.Cookie, Offset, 1ul << 32), "type 0 and 4294967296 bytes"),
        ["end without data"] = (r => Frame.AnyChunk(r, true, 0), "without all"),
        ["data too long"] = (r => Data(r, 0, Length + 1, true), "data chunk of 4105 bytes"),
        ["data of 2^32 bytes more"] =
            (r => Frame.ExtendedHeader(true, 1, r.Cookie, Offset, (1ul << 32) + Length + 8), "4294971400 bytes"),
        ["data of 2^64-1 bytes"] =
            (r => Frame.ExtendedHeader(true, 1, r.Cookie, Offset, ulong.MaxValue), "18446744073709551615 bytes"),
        ["data without bytes"] = (r => Data(r, 0, 0, true), "data chunk of 8 bytes"),
        ["data beyond"] = (r => Data(r, 4095, 2, true), "12287"),
        ["data twice"] = (r => Data(r, 0, 8, false) + Data(r, 7, 4089, true), "twice"),
        ["a gap"] = (r => Data(r, 0, 8, false) + Data(r, 9, 4087, true), "without all"),
        ["hole of 2^32 + 12 bytes"] =
            (r => Frame.ExtendedHeader(true, 2, r.Cookie, Offset, (1ul << 32) + 12), "hole chunk of 4294967308 bytes"),
        ["hole too long"] = (r => Hole(r, 0, Length + 1, true), "READ of 4096 bytes at 8192 with 4097 bytes"),
        ["error chunk of 2^32 + 6 bytes"] =
            (r => Frame.ExtendedHeader(true, 0x8001, r.Cookie, Offset, (1ul << 32) + 6), "of 4294967302 bytes"),
        ["error chunk too short"] = (r => Frame.AnyChunk(r, true, 0x8001, "0000000500"), "error chunk"),
        ["error 0"] = (r => Frame.AnyChunk(r, true, 0x8001, Frame.U32(0) + Frame.U16(0)), "error chunk with error 0"),
        ["block status"] =
            (r => Frame.Status(r, true, 1, (1, 1)), "answered Read with a chunk of type 6"),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_broken_rule_ends_the_connection(string name)
    {
        (Func<FakeRequest, string> reply, string message) = s_cases[name];
        using FakeNbdServer server = new(peer =>
        {
            Handshake(peer);
            peer.Send(reply(peer.ReceiveRequest()));
            peer.Drain();
        });
        ConcurrentQueue<NbdException> lost = [];
        RecordedCompletion read;
        using (NbdConnectionPool pool = Connect(server))
        {
            pool.ConnectionLost = lost.Enqueue;
            read = TransmissionTests.Read(pool, Offset, Length);
            Assert.Equal(Errno.EIO, read.Outcome);
        }

        server.Finish();
        Assert.Null(read.Data);
        Assert.Contains(message, Assert.IsType<NbdProtocolException>(Assert.Single(lost)).Message);
    }

    [Fact]
    public void Commands_have_64_bits_of_length_and_only_a_WRITE_has_a_payload()
    {
        const ulong Long = (1ul << 40) + 7;
        List<FakeRequest> requests = [];
        using FakeNbdServer server = new(peer =>
        {
            Handshake(peer, long.MaxValue);
            for (int i = 0; i < 6; i++)
            {
                FakeRequest request = peer.ReceiveRequest();
                requests.Add(request);
                peer.Send(request.Type == 0
                    ? Frame.AnyChunk(request, true, 0x8001, Frame.U32(5) + Frame.U16(0))
                    : Frame.AnyChunk(request, true, 0));
            }

            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = Connect(server))
        {
            byte* data = stackalloc byte[] { 1, 2, 3 };
            nint start = (nint)data;
            TransmissionTests.Run(c => pool.Read(1ul << 62, 7, NbdCommandFlags.DontFragment, c), Errno.EIO);
            TransmissionTests.Run(c => pool.Write(1, (byte*)start, 3, NbdCommandFlags.ForceUnitAccess, c));
            TransmissionTests.Run(c => pool.Trim(2, Long, NbdCommandFlags.None, c));
            TransmissionTests.Run(c => pool.WriteZeroes(3, Long + 1, NbdCommandFlags.NoHole, c));
            TransmissionTests.Run(c => pool.Cache(4, Long + 2, c));
            TransmissionTests.Run(c => pool.Flush(c));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
        Assert.Equal(
            [
                (4, 0, 1ul << 62, 7ul, ""), (1 | 32, 1, 1ul, 3ul, "010203"), (0, 4, 2ul, Long, ""),
                (2, 6, 3ul, Long + 1, ""), (0, 5, 4ul, Long + 2, ""), (0, 3, 0ul, 0ul, ""),
            ],
            requests.Select(r => (r.Flags, r.Type, r.Offset, r.LongLength, Frame.Bytes(r.Payload))));
    }

    [Fact]
    public void Data_may_come_in_one_or_many_chunks_split_at_every_byte()
    {
        int parts = 0;
        using FakeNbdServer server = new(peer =>
        {
            Handshake(peer);
            peer.Send(Data(peer.ReceiveRequest(), 0, 32, true));
            for (int split = 1; split > 0; split++)
            {
                FakeRequest request = peer.ReceiveRequest();
                string reply = Data(request, 15, 17, false) + Hole(request, 10, 5, false) + Data(request, 0, 10, true);
                Volatile.Write(ref parts, reply.Length / 2);
                if (split == reply.Length / 2)
                {
                    peer.SendByteByByte(reply);
                    break;
                }

                peer.SendInTwo(reply, split);
            }

            peer.Send(Hole(peer.ReceiveRequest(), 0, 32, true));
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server);
        TransmissionTests.AssertPattern(TransmissionTests.Read(pool, 3, 32), 3, 32);
        byte[] expected = TransmissionTests.Pattern(3, 32);
        Array.Clear(expected, 10, 5);
        int reads = 0;
        do
        {
            RecordedCompletion read = TransmissionTests.Read(pool, 3, 32);
            Assert.Equal(Errno.None, read.Outcome);
            Assert.Equal(expected, read.Data);
            reads++;
        }
        while (reads < Volatile.Read(ref parts));

        RecordedCompletion hole = TransmissionTests.Read(pool, 3, 32);
        Assert.Equal(Errno.None, hole.Outcome);
        Assert.Equal(new byte[32], hole.Data);
    }

    [Fact]
    public void A_large_write_waits_for_room_with_its_header()
    {
        const int Writes = 16;
        const int Bytes = 1024 * 1024;
        using ManualResetEventSlim queued = new();
        using FakeNbdServer server = new(peer =>
        {
            Handshake(peer, Bytes);
            Assert.True(queued.Wait(FakeNbdServer.TimeLimit));
            for (int i = 0; i < Writes; i++)
            {
                FakeRequest write = peer.ReceiveRequest();
                Assert.Equal(Bytes, write.Payload.Length);
                Assert.Equal(-1, write.Payload.AsSpan().IndexOfAnyExcept((byte)0x5a));
                peer.Send(Frame.AnyChunk(write, true, 0));
            }
        });
        using (NbdConnectionPool pool = Connect(server))
        {
            using NativeBuffer data = new(Bytes);
            new Span<byte>(data.Start, Bytes).Fill(0x5a);
            RecordedCompletion[] writes = new RecordedCompletion[Writes];
            for (int i = 0; i < Writes; i++)
            {
                writes[i] = new RecordedCompletion();
                Assert.Equal(Errno.None, pool.Write(0, data.Start, Bytes, NbdCommandFlags.None, writes[i]));
            }

            queued.Set();
            Assert.All(writes, write => Assert.Equal(Errno.None, write.Outcome));
        }

        server.Finish();
    }

    private static void Handshake(FakePeer peer, ulong size = 1024 * 1024)
    {
        peer.AgreeToExtendedHeaders();
        peer.Expect(Frame.GoFor(""));
        peer.Send(Frame.ExportInfo(size, 0x0ced) + Frame.OptionReply(Frame.Go, Frame.Ack));
        peer.IsExtended = true;
    }

    private static string Data(FakeRequest request, uint start, uint length, bool done) => Frame.AnyChunk(
        request,
        done,
        1,
        Frame.U64(request.Offset + start) + Frame.Bytes(TransmissionTests.Pattern(request.Offset + start, length)));

    private static string Hole(FakeRequest request, uint start, uint length, bool done) =>
        Frame.AnyChunk(request, done, 2, Frame.U64(request.Offset + start) + Frame.U32(length));

    private static NbdConnectionPool Connect(FakeNbdServer server) => NbdConnectionPool.Connect(
        server.Endpoint,
        "",
        new NbdClientOptions { Connections = 1, ExtendedHeaders = true },
        CancellationToken.None);
}
