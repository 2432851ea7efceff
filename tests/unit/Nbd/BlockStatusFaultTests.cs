using System.Collections.Concurrent;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Servers that break the rules in the answer to a BLOCK_STATUS, with compact and with extended headers.</summary>
public sealed class BlockStatusFaultTests
{
    private const string Allocation = "base:allocation";
    private const string Bitmap = "qemu:dirty-bitmap:b";
    private const ulong Offset = 8192;
    private const ulong Length = 4096;

    /// <summary>Answers to a BLOCK_STATUS (of Length at Offset, contexts 1 and 2) that end the connection.</summary>
    private static readonly Dictionary<string, (Func<FakeRequest, string> Reply, string Message)> s_cases = new()
    {
        ["no chunk"] = (r => Frame.AnyChunk(r, true, 0), "for 0 of 2 meta contexts"),
        ["one context of two"] = (r => Frame.Status(r, true, 1, (Length, 0)), "for 1 of 2 meta contexts"),
        ["a context twice"] =
            (r => Frame.Status(r, false, 1, (Length, 0)) + Frame.Status(r, true, 1, (Length, 0)), "twice"),
        ["an unknown context"] = (r => Frame.Status(r, true, 3, (Length, 0)), "meta context id 3, which was not asked for"),
        ["an extent of no bytes"] = (r => Frame.Status(r, true, 1, (0, 0)), "an extent of 0 bytes after 0 bytes"),
        ["an extent of no bytes, later"] =
            (r => Frame.Status(r, true, 1, (8, 0), (0, 1)), "an extent of 0 bytes after 8 bytes"),
        ["an extent beyond the range"] =
            (r => Frame.Status(r, true, 1, (Length, 0), (1, 1)), "an extent of 1 bytes after 4096 bytes"),
        ["no descriptor"] = (r => Frame.Status(r, true, 1), "block status chunk of"),
        ["half a descriptor"] =
            (r => Frame.AnyChunk(
                r, true, r.IsExtended ? 6 : 5, Frame.U32(1) + Frame.Zeroes(r.IsExtended ? 4 + 15 : 7)), "chunk of"),
        ["a descriptor and a half"] =
            (r => Frame.AnyChunk(
                r, true, r.IsExtended ? 6 : 5, Frame.U32(1) + Frame.Zeroes(r.IsExtended ? 4 + 24 : 12)), "chunk of"),
        ["less than a context id"] = (r => Frame.AnyChunk(r, true, r.IsExtended ? 6 : 5, "0000"), "chunk of 2 bytes"),
        ["no payload"] = (r => Frame.AnyChunk(r, true, r.IsExtended ? 6 : 5), "chunk of 0 bytes"),
        ["too many descriptors"] = (r => r.IsExtended
            ? Frame.ExtendedHeader(true, 6, r.Cookie, r.Offset, 8 + (16 * 1048577))
            : Frame.ChunkHeader(true, 5, r.Cookie, 4 + (8 * 1048577)), "block status chunk of"),
        ["the style that was not agreed on"] = (r => r.IsExtended
            ? Frame.AnyChunk(r, true, 5, Frame.U32(1) + Frame.U32(4096) + Frame.U32(0))
            : Frame.AnyChunk(r, true, 6, Frame.U32(1) + Frame.U32(1) + Frame.U64(4096) + Frame.U64(0)),
            "answered BlockStatus with a chunk of type"),
        ["data"] = (r => Frame.AnyChunk(r, true, 1, Frame.U64(r.Offset) + "00"), "with a chunk of type 1"),
        ["a hole"] = (r => Frame.AnyChunk(r, true, 2, Frame.U64(r.Offset) + Frame.U32(1)), "with a chunk of type 2"),
        ["an unknown chunk"] = (r => Frame.AnyChunk(r, true, 7), "with a chunk of type 7"),
    };

    private static readonly Dictionary<string, (Func<FakeRequest, string> Reply, string Message)> s_extendedCases =
        new()
        {
            ["a count that is too small"] =
                (r => Frame.AnyChunk(r, true, 6, Frame.U32(1) + Frame.U32(0) + Frame.U64(1) + Frame.U64(0)), "claims 0"),
            ["a count that is too large"] =
                (r => Frame.AnyChunk(r, true, 6, Frame.U32(1) + Frame.U32(2) + Frame.U64(1) + Frame.U64(0)), "claims 2"),
            ["a payload of 2^64-1 bytes"] =
                (r => Frame.ExtendedHeader(true, 6, r.Cookie, r.Offset, ulong.MaxValue), "18446744073709551615 bytes"),
            ["a payload of 2^32 + 24 bytes"] =
                (r => Frame.ExtendedHeader(true, 6, r.Cookie, r.Offset, (1ul << 32) + 24), "4294967320 bytes"),
            ["lengths that overflow"] =
                (r => Frame.Status(r, true, 1, (1, 0), (ulong.MaxValue, 1)), "18446744073709551615 bytes after 1"),
            ["another offset"] =
                (r => Frame.ExtendedHeader(true, 0, r.Cookie, r.Offset + 1, 0), "with a reply for offset 8193"),
            ["a simple reply"] = (r => Frame.SimpleReply(0, r.Cookie), "starts with 0x67446698"),
            ["a structured reply"] = (r => Frame.Chunk(true, 0, r.Cookie), "starts with 0x668e33ef"),
        };

    public static TheoryData<string, bool> Cases =>
    [
        .. s_cases.Keys.SelectMany(name => new[] { (name, false), (name, true) }),
        .. s_extendedCases.Keys.Select(name => (name, true)),
    ];

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_broken_rule_ends_the_connection(string name, bool extended)
    {
        (Func<FakeRequest, string> reply, string message) =
            s_cases.TryGetValue(name, out var found) ? found : s_extendedCases[name];
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended, [Allocation, Bitmap]);
            peer.Send(reply(peer.ReceiveRequest()));
            peer.Drain();
        });
        ConcurrentQueue<NbdException> lost = [];
        RecordedStatus status = new();
        using (NbdConnectionPool pool = BlockStatusTests.Connect(server, Allocation, Bitmap))
        {
            pool.ConnectionLost = lost.Enqueue;
            Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.None, status));
            Assert.Equal(Errno.EIO, status.Outcome);
        }

        server.Finish();
        NbdException reason = Assert.Single(lost);
        Assert.IsType<NbdProtocolException>(reason);
        Assert.Contains(message, reason.Message);
    }

    [Fact]
    public void The_end_of_the_stream_within_a_reply_never_makes_an_answer()
    {
        foreach (bool extended in new[] { false, true })
        {
            for (int cut = 0; cut >= 0; cut++)
            {
                int whole = 0;
                using FakeNbdServer server = new(peer =>
                {
                    peer.HandshakeWithContexts(extended, [Allocation, Bitmap]);
                    FakeRequest request = peer.ReceiveRequest();
                    string reply = Frame.Status(request, false, 2, (1, 0), (2, 1))
                        + Frame.Status(request, true, 1, (4096, 3));
                    whole = reply.Length / 2;
                    peer.Send(reply[..Math.Min(2 * cut, reply.Length)]);
                });
                using NbdConnectionPool pool = BlockStatusTests.Connect(server, Allocation, Bitmap);
                RecordedStatus status = new();
                Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.None, status));
                Errno outcome = status.Outcome;
                server.Finish();
                if (cut == whole)
                {
                    Assert.Equal(Errno.None, outcome);
                    break;
                }

                Assert.Equal(Errno.EIO, outcome);
            }
        }
    }
}
