using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>BLOCK_STATUS on the level of <see cref="NbdConnectionPool"/>, with compact and with extended headers.</summary>
public sealed class BlockStatusTests
{
    private const string Allocation = "base:allocation";
    private const string Bitmap = "qemu:dirty-bitmap:b";
    private const ulong Offset = 8192;
    private const ulong Length = 4096;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Contexts_may_come_in_any_order_and_answers_may_be_short_or_long(bool extended)
    {
        List<FakeRequest> requests = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended, [Allocation, Bitmap]);
            FakeRequest request = peer.ReceiveRequest();
            requests.Add(request);
            peer.Send(Frame.Status(request, false, 2, (1000, 1), (3095, 0), (1 << 30, 1)));
            peer.Send(Frame.Status(request, true, 1, (10, 3)));
            request = peer.ReceiveRequest();
            requests.Add(request);
            peer.Send(Frame.Status(request, false, 1, (4096, 0)) + Frame.Status(request, false, 2, (1, 0)));
            peer.Send(Frame.AnyChunk(request, true, 0));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = Connect(server, Allocation, Bitmap))
        {
            Assert.Equal([Allocation, Bitmap], pool.Export.MetaContexts);
            Assert.Equal(extended, pool.Export.ExtendedHeaders);
            RecordedStatus all = new();
            Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.None, all));
            Assert.Equal(Errno.None, all.Outcome);
            Assert.Equal([(10, 3)], all.Of(0));
            Assert.Equal([(1000, 1), (3095, 0), (1 << 30, 1)], all.Of(1));

            RecordedStatus one = new();
            Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.RequestOne, one));
            Assert.Equal(Errno.None, one.Outcome);
            Assert.Equal([(4096, 0)], one.Of(0));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
        Assert.Equal([(0, 7, Offset, Length), (8, 7, Offset, Length)], requests.Select(
            r => (r.Flags, r.Type, r.Offset, r.LongLength)));
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void Contexts_that_are_not_wanted_are_left_out_where_the_server_can(bool extended, bool canFilter)
    {
        List<FakeRequest> requests = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended, [Allocation, Bitmap, "x:c"], flags: canFilter ? 0x1c6d : 0x0c6d);
            for (int i = 0; i < 2; i++)
            {
                FakeRequest request = peer.ReceiveRequest();
                requests.Add(request);
                string reply = Frame.Status(request, false, 3, (4096, 2));
                if (!canFilter)
                {
                    reply += Frame.Status(request, false, 1, (4096, 0));
                }

                peer.Send(reply + Frame.Status(request, true, canFilter && i == 1 ? 1u : 2u, (4096, 1)));
            }

            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server, Allocation, Bitmap, "x:c");
        Assert.Equal(canFilter, pool.Export.CanFilterMetaContexts);
        RecordedStatus status = new() { Contexts = 0b110 };
        Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.RequestOne, status));
        Assert.Equal(Errno.None, status.Outcome);
        Assert.Equal([(4096, 1)], status.Of(1));
        Assert.Equal([(4096, 2)], status.Of(2));

        // The second answer has a context that was left out, and lacks one that was not.
        status = new() { Contexts = 0b110 };
        Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.RequestOne, status));
        Assert.Equal(canFilter ? Errno.EIO : Errno.None, status.Outcome);
        Assert.Equal(
            Errno.EINVAL,
            pool.BlockStatus(Offset, Length, NbdCommandFlags.None, new RecordedStatus { Contexts = 0b1000 }));
        Assert.Equal(
            canFilter ? (8 | 32, 16ul, Frame.U64(Length) + Frame.U32(2) + Frame.U32(3)) : (8, Length, ""),
            (requests[0].Flags, requests[0].LongLength, Frame.Bytes(requests[0].Payload)));
    }

    [Theory]
    [InlineData(false, 2)]
    [InlineData(true, 2)]
    [InlineData(false, 1)]
    [InlineData(true, 1)]
    public void REQ_ONE_allows_one_extent_that_is_not_longer_than_the_range(bool extended, int extents)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended, [Allocation]);
            peer.Send(Frame.Status(
                peer.ReceiveRequest(), true, 1, extents == 2 ? [(1, 0), (1, 1)] : [(Length + 1, 0)]));
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server, Allocation);
        RecordedStatus status = new();

        Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.RequestOne, status));
        Assert.Equal(Errno.EIO, status.Outcome);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_longest_answer_comes_whole(bool extended)
    {
        const int Count = NbdConnectionPool.MaximumDescriptors;
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended, [Allocation]);
            FakeRequest request = peer.ReceiveRequest();
            // Lengths 1 to 7, flags 0 to 3. As bytes: hexadecimal text of this size is a burden to other tests.
            int size = extended ? 16 : 8;
            byte[] descriptors = new byte[Count * size];
            for (int i = 0; i < Count; i++)
            {
                descriptors[(i * size) + (size / 2) - 1] = (byte)((i % 7) + 1);
                descriptors[(i * size) + size - 1] = (byte)(i % 4);
            }

            peer.Send(extended
                ? Frame.ExtendedHeader(true, 6, request.Cookie, request.Offset, (16ul * Count) + 8)
                    + Frame.U32(1) + Frame.U32(Count)
                : Frame.ChunkHeader(true, 5, request.Cookie, (8 * Count) + 4) + Frame.U32(1));
            peer.Send(descriptors);
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server, Allocation);
        CountedStatus status = new();

        Assert.Equal(Errno.None, pool.BlockStatus(0, uint.MaxValue, NbdCommandFlags.None, status));
        Assert.Equal((Errno.None, Count), status.Result);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_error_takes_back_what_was_told_before(bool extended)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended, [Allocation, Bitmap]);
            FakeRequest request = peer.ReceiveRequest();
            peer.Send(Frame.Status(request, false, 1, (Length, 0)));
            peer.Send(Frame.AnyChunk(request, true, 0x8001, Frame.U32(12) + Frame.U16(0)));
            request = peer.ReceiveRequest();
            peer.Send(Frame.AnyChunk(request, false, 0x8002, Frame.U32(5) + Frame.U16(0) + Frame.U64(request.Offset)));
            peer.Send(Frame.Status(request, true, 1, (Length, 0)));
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server, Allocation, Bitmap);
        foreach (Errno errno in new[] { Errno.ENOMEM, Errno.EIO })
        {
            RecordedStatus status = new();
            Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.None, status));
            Assert.Equal(errno, status.Outcome);
        }
    }

    [Fact]
    public void What_the_header_cannot_hold_is_refused_before_it_is_sent()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended: false, [Allocation]);
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = Connect(server, Allocation))
        {
            const ulong TooLong = 1ul << 32;
            RecordedStatus never = new();
            Assert.Equal(Errno.EINVAL, pool.BlockStatus(0, TooLong, NbdCommandFlags.None, never));
            Assert.Equal(Errno.EINVAL, pool.WriteZeroes(0, TooLong, NbdCommandFlags.None, never));
            Assert.Equal(Errno.EINVAL, pool.Trim(0, TooLong, NbdCommandFlags.None, never));
            Assert.Equal(Errno.EINVAL, pool.Cache(0, TooLong, never));
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
            Assert.Equal(0, never.Calls);
        }

        server.Finish();
    }

    [Fact]
    public void Without_meta_contexts_there_is_no_block_status()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended: true, [], asked: [Allocation]);
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server, Allocation);

        Assert.Empty(pool.Export.MetaContexts);
        Assert.Equal(
            Errno.EOPNOTSUPP, pool.BlockStatus(Offset, Length, NbdCommandFlags.None, new RecordedStatus()));
    }

    [Fact]
    public void Connections_may_give_a_context_different_ids()
    {
        Action<FakePeer> Serve(uint allocation, uint bitmap) => peer =>
        {
            peer.AgreeToExtendedHeaders();
            peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Bitmap, Allocation));
            bool swap = allocation > bitmap;
            string[] replies =
            [
                Frame.MetaContextReply(Frame.SetMetaContext, allocation, Allocation),
                Frame.MetaContextReply(Frame.SetMetaContext, bitmap, Bitmap),
            ];
            peer.Send(string.Concat(swap ? replies.Reverse() : replies));
            peer.Send(Frame.OptionReply(Frame.SetMetaContext, Frame.Ack));
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.ExportInfo(1 << 20, 0x0d6d) + Frame.OptionReply(Frame.Go, Frame.Ack));
            peer.IsExtended = true;
            FakeRequest request = peer.ReceiveRequest();
            peer.Send(Frame.Status(request, false, bitmap, (Length, 1)));
            peer.Send(Frame.Status(request, true, allocation, (Length, 3)));
            peer.Drain();
        };

        using FakeNbdServer server = new(Serve(1, 2), Serve(uint.MaxValue, 0));
        using NbdConnectionPool pool = NbdConnectionPool.Connect(
            server.Endpoint,
            "",
            new NbdClientOptions { Connections = 2, MetaContexts = [Bitmap, Allocation, Bitmap] },
            CancellationToken.None);
        Assert.Equal([Allocation, Bitmap], pool.Export.MetaContexts);
        for (int i = 0; i < 2; i++)
        {
            RecordedStatus status = new();
            Assert.Equal(Errno.None, pool.BlockStatus(Offset, Length, NbdCommandFlags.None, status));
            Assert.Equal(Errno.None, status.Outcome);
            Assert.Equal([(Length, 3ul)], status.Of(0));
            Assert.Equal([(Length, 1ul)], status.Of(1));
        }
    }

    internal static NbdConnectionPool Connect(FakeNbdServer server, params string[] contexts) =>
        NbdConnectionPool.Connect(
            server.Endpoint,
            "",
            new NbdClientOptions { Connections = 1, MetaContexts = contexts },
            CancellationToken.None);

    /// <summary>Counts the extents that are as <see cref="The_longest_answer_comes_whole"/> has them.</summary>
    private sealed unsafe class CountedStatus : NbdBlockStatusCompletion
    {
        private readonly TaskCompletionSource<(Errno Outcome, int Count)> _result = new();
        private int _count;

        internal (Errno Outcome, int Count) Result =>
            _result.Task.WaitAsync(FakeNbdServer.TimeLimit).GetAwaiter().GetResult();

        protected internal override void OnExtents(int context, ReadOnlySpan<NbdBlockDescriptor> extents)
        {
            foreach (NbdBlockDescriptor extent in extents)
            {
                _count += extent == new NbdBlockDescriptor(((ulong)_count % 7) + 1, (ulong)_count % 4) ? 1 : 0;
            }
        }

        protected internal override void OnCompleted(Errno outcome, byte* data) =>
            _result.SetResult((outcome, _count));
    }
}
