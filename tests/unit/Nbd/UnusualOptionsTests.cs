using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>What a client leaves out or does not keep only when it is told so: for programs that test servers.</summary>
public sealed class UnusualOptionsTests
{
    private const ulong Size = 1 << 20;

    [Fact]
    public void Block_sizes_need_not_be_asked_for()
    {
        NegotiatedConnection connection = Negotiation.Agree(new NbdClientOptions { RequestBlockSizes = false }, peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.Expect(Frame.Option(Frame.Go, Frame.U32(4) + Frame.Text("disk") + Frame.U16(0)));
            peer.Send(Frame.ExportInfo(Size, 1) + Frame.OptionReply(Frame.Go, Frame.Ack));
        }, "disk");

        Assert.Equal(NbdExport.DefaultMinimumBlockBytes, connection.Export.MinimumBlockBytes);
    }

    [Fact]
    public void Without_FIXED_NEWSTYLE_nothing_but_EXPORT_NAME_is_sent()
    {
        NbdClientOptions options = new() { HandshakeFlags = NbdHandshakeFlags.NoZeroes };

        NegotiatedConnection connection = Negotiation.Agree(options, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(2) + Frame.Option(Frame.ExportName, Frame.Text("disk")));
            peer.Send(Frame.U64(Size) + Frame.U16(1));
        }, "disk");

        Assert.False(connection.Export.StructuredReplies);
    }

    [Fact]
    public void Without_NO_ZEROES_the_zeroes_after_EXPORT_NAME_are_skipped()
    {
        NbdClientOptions options = new() { HandshakeFlags = NbdHandshakeFlags.None };

        NegotiatedConnection connection = Negotiation.Agree(options, peer =>
        {
            peer.Send(Frame.Newstyle());
            HandshakeTests.AnswerWithZeroes(peer);
        }, "disk");

        Assert.True(connection.Export.IsReadOnly);
    }

    [Fact]
    public void TLS_cannot_be_required_without_FIXED_NEWSTYLE()
    {
        NbdClientOptions options = new()
        {
            HandshakeFlags = NbdHandshakeFlags.None,
            Tls = new NbdTlsOptions { Policy = NbdTlsPolicy.Require, HostName = "nbd.example" },
        };
        using FakeNbdServer server = new(peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(0));
            peer.ExpectEnd();
        });

        NbdException exception = Assert.ThrowsAny<NbdException>(
            () => NbdConnectionPool.Connect(server.Endpoint, "", options, CancellationToken.None));

        Assert.Contains("there is none without FixedNewstyle among the HandshakeFlags", exception.Message);
        server.Finish();
    }

    [Fact]
    public unsafe void Sizes_that_the_server_does_not_take_can_be_sent_all_the_same()
    {
        const uint Bytes = 5000;
        List<(ulong Offset, uint Length)> seen = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(Size, flags: 1, extraInfos: Frame.BlockSizeInfo(512, 4096, 4096));
            for (int i = 0; i < 2; i++)
            {
                FakeRequest request = peer.ReceiveRequest();
                seen.Add((request.Offset, request.Length));
                peer.Send(Frame.Chunk(true, 0x8001, request.Cookie, Frame.U32(22) + Frame.U16(0)));
            }

            peer.ExpectDisconnect();
        });
        NbdClientOptions options = new() { Connections = 1, IgnoreBlockSizes = true };
        using NativeBuffer memory = new((int)Bytes);
        using (NbdConnectionPool pool = NbdConnectionPool.Connect(server.Endpoint, "", options, CancellationToken.None))
        {
            RecordedCompletion write = new();
            Assert.Equal(Errno.None, pool.Write(3, memory.Start, Bytes, NbdCommandFlags.None, write));
            Assert.Equal(Errno.EINVAL, write.Outcome);
            RecordedCompletion read = new();
            Assert.Equal(Errno.None, pool.Read(1, Bytes, NbdCommandFlags.None, read));
            Assert.Equal(Errno.EINVAL, read.Outcome);
            Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        }

        server.Finish();
        Assert.Equal([(3, Bytes), (1, Bytes)], seen);
    }
}
