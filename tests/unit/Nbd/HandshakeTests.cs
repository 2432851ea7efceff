using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

public sealed class HandshakeTests
{
    private const ulong Size = 1024 * 1024;

    [Fact]
    public void A_fixed_newstyle_server_is_asked_for_structured_replies_and_block_sizes()
    {
        NegotiatedConnection connection = Negotiation.Agree(peer => peer.Handshake(
            Size, 0x0c6d, exportName: "disk", extraInfos: Frame.BlockSizeInfo(512, 65536, 8 * 1024 * 1024)), "disk");

        Assert.True(connection.Export.StructuredReplies);
        Assert.Equal(
            new NbdExport
            {
                Name = "disk",
                SizeBytes = (long)Size,
                Flags = (NbdTransmissionFlags)0x0c6d,
                MinimumBlockBytes = 512,
                PreferredBlockBytes = 65536,
                MaximumPayloadBytes = 8 * 1024 * 1024,
                StructuredReplies = true,
            },
            connection.Export);
    }

    [Fact]
    public void Replies_of_the_server_may_be_split_at_every_byte()
    {
        NegotiatedConnection connection = Negotiation.Agree(peer =>
        {
            peer.SendByteByByte(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.SendByteByByte(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.Expect(Frame.GoFor("disk"));
            peer.SendByteByByte(Frame.BlockSizeInfo(1, 4096, 65536) + Frame.ExportInfo(Size, 1));
            peer.SendByteByByte(Frame.OptionReply(Frame.Go, Frame.Ack));
        }, "disk");

        Assert.Equal(65536, connection.Export.MaximumPayloadBytes);
        Assert.Equal((long)Size, connection.Export.SizeBytes);
    }

    [Fact]
    public void No_byte_after_the_handshake_is_read()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.ExportInfo(Size, 1) + Frame.OptionReply(Frame.Go, Frame.Ack) + "ab");
            peer.ExpectEnd();
        });
        using (SafeFd socket = SocketConnector.Connect(server.Endpoint, Soon(), CancellationToken.None))
        {
            NbdHandshake.Run(socket, "", "fake", Soon(), CancellationToken.None);
            Assert.Equal(0xab, ReadByte(socket));
        }

        server.Finish();
    }

    [Fact]
    public void Without_structured_replies_the_DF_flag_means_nothing()
    {
        NegotiatedConnection connection = Negotiation.Agree(peer => peer.Handshake(Size, 0x0081, structured: false));

        Assert.False(connection.Export.StructuredReplies);
        Assert.False(connection.Export.CanDontFragment);
    }

    [Fact]
    public void Without_write_zeroes_there_is_no_fast_zero_and_unknown_flags_are_dropped()
    {
        NegotiatedConnection connection = Negotiation.Agree(peer => peer.Handshake(Size, 0xf801));

        Assert.Equal(NbdTransmissionFlags.HasFlags, connection.Export.Flags);
    }

    [Theory]
    [InlineData(0x003, nameof(NbdExport.IsReadOnly))]
    [InlineData(0x005, nameof(NbdExport.CanFlush))]
    [InlineData(0x009, nameof(NbdExport.CanForceUnitAccess))]
    [InlineData(0x011, nameof(NbdExport.IsRotational))]
    [InlineData(0x021, nameof(NbdExport.CanTrim))]
    [InlineData(0x041, nameof(NbdExport.CanWriteZeroes))]
    [InlineData(0x081, nameof(NbdExport.CanDontFragment))]
    [InlineData(0x101, nameof(NbdExport.CanMultiConn))]
    [InlineData(0x401, nameof(NbdExport.CanCache))]
    [InlineData(0x841, nameof(NbdExport.CanFastZero), nameof(NbdExport.CanWriteZeroes))]
    public void Each_flag_is_a_property(int flags, params string[] properties)
    {
        NbdExport export = Negotiation.Agree(peer => peer.Handshake(Size, flags)).Export with { StructuredReplies = false };

        Assert.Equal(flags, (int)export.Flags);
        Assert.Equal(
            properties.Order(),
            typeof(NbdExport).GetProperties()
                .Where(property => property.PropertyType == typeof(bool) && (bool)property.GetValue(export)!)
                .Select(property => property.Name).Order());
    }

    [Fact]
    public void A_server_without_GO_is_asked_by_EXPORT_NAME()
    {
        NegotiatedConnection connection = Negotiation.Agree(peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, 0x80000001, Frame.Text("no idea")));
            peer.Expect(Frame.GoFor("disk"));
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000001));
            peer.Expect(Frame.Option(Frame.ExportName, Frame.Text("disk")));
            peer.Send(Frame.U64(Size) + Frame.U16(1));
        }, "disk");

        Assert.Equal((long)Size, connection.Export.SizeBytes);
        Assert.False(connection.Export.StructuredReplies);
        Assert.Equal(NbdExport.DefaultMaximumPayloadBytes, connection.Export.MaximumPayloadBytes);
    }

    [Fact]
    public void A_newstyle_server_that_is_not_fixed_gets_EXPORT_NAME_alone_and_sends_its_zeroes()
    {
        NegotiatedConnection connection = Negotiation.Agree(peer =>
        {
            peer.Send(Frame.Newstyle(flags: 0));
            AnswerWithZeroes(peer);
        }, "disk");

        Assert.True(connection.Export.IsReadOnly);
    }

    [Fact]
    public void Only_flags_that_the_server_sent_are_answered()
    {
        Negotiation.Agree(peer =>
        {
            peer.Send(Frame.Newstyle(flags: 0xfffd));
            peer.Expect(Frame.U32(1) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.ExportInfo(Size, 1) + Frame.OptionReply(Frame.Go, Frame.Ack));
        });
    }

    [Fact]
    public void An_oldstyle_server_says_all_in_its_greeting()
    {
        NegotiatedConnection connection = Negotiation.Agree(peer =>
        {
            peer.SendByteByByte(Frame.Oldstyle(Size, 0, 7));
            peer.ExpectEnd();
        });

        Assert.Equal((long)Size, connection.Export.SizeBytes);
        Assert.True(connection.Export.IsReadOnly && connection.Export.CanFlush);
        Assert.False(connection.Export.StructuredReplies);
    }

    [Fact]
    public void Nothing_but_a_broken_set_of_block_sizes_is_ignored()
    {
        foreach ((uint minimum, uint preferred, uint maximum) in new (uint, uint, uint)[]
        {
            (0, 4096, 65536), (3, 4096, 65536), (131072, 131072, 131072), (4096, 512, 65536), (1, 256, 65536),
            (1, 4097, 65536), (1, 4096, 2048), (512, 4096, 65537), (uint.MaxValue, uint.MaxValue, uint.MaxValue),
        })
        {
            NbdExport export = Negotiation.Agree(peer => peer.Handshake(
                Size, 1, extraInfos: Frame.BlockSizeInfo(minimum, preferred, maximum))).Export;

            Assert.Equal(1, export.MinimumBlockBytes);
            Assert.Equal(4096, export.PreferredBlockBytes);
            Assert.Equal(32 * 1024 * 1024, export.MaximumPayloadBytes);
        }
    }

    [Fact]
    public void A_payload_without_limit_is_limited_by_us()
    {
        NbdExport export = Negotiation.Agree(peer => peer.Handshake(
            Size, 1, extraInfos: Frame.BlockSizeInfo(1, 1u << 31, uint.MaxValue))).Export;

        Assert.Equal(64 * 1024 * 1024, export.MaximumPayloadBytes);
        Assert.Equal(1L << 31, export.PreferredBlockBytes);
    }

    [Fact]
    public void The_largest_size_is_accepted()
    {
        Assert.Equal(long.MaxValue, Negotiation.Agree(peer => peer.Handshake(long.MaxValue, 1)).Export.SizeBytes);
        Assert.Equal(0, Negotiation.Agree(peer => peer.Handshake(0, 1)).Export.SizeBytes);
    }

    [Fact]
    public void A_description_is_made_printable()
    {
        string info = Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(2) + "411b5b324a0a7f42" + "ff");

        Assert.Equal("A?[2J??B\ufffd", Negotiation.Agree(peer => peer.Handshake(Size, 1, extraInfos: info)).Export.Description);
    }

    [Fact]
    public void Unknown_and_long_information_is_skipped()
    {
        string infos = Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(77) + Frame.Zeroes(100000))
            + Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(1) + Frame.Zeroes(4096));

        Assert.Equal((long)Size, Negotiation.Agree(peer => peer.Handshake(Size, 1, extraInfos: infos)).Export.SizeBytes);
    }

    internal static Deadline Soon() => Deadline.After(FakeNbdServer.TimeLimit);

    /// <summary>A read-only disk for a client that answered no flag of the greeting.</summary>
    internal static void AnswerWithZeroes(FakePeer peer)
    {
        peer.Expect(Frame.U32(0) + Frame.Option(Frame.ExportName, Frame.Text("disk")));
        peer.Send(Frame.U64(Size) + Frame.U16(3) + Frame.Zeroes(124));
        peer.ExpectEnd();
    }

    private static unsafe int ReadByte(SafeFd socket)
    {
        byte value;
        Assert.Equal(1, (int)Tmds.Linux.LibC.recv(socket.Fd, &value, 1, 0));
        return value;
    }
}
