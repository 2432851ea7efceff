using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>EXTENDED_HEADERS and STRUCTURED_REPLY: what is asked for when, and each answer.</summary>
public sealed class OptionTests
{
    internal const string Allocation = "base:allocation";
    private static readonly NbdClientOptions s_allocation = new() { MetaContexts = [Allocation] };

    public static TheoryData<uint> Errors =>
    [
        0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008, 0x80000009,
        0x8000000a, 0x80001234,
    ];

    [Theory]
    [MemberData(nameof(Errors))]
    public void Extended_headers_that_are_refused_leave_structured_replies(uint error)
    {
        NegotiatedConnection connection = Negotiation.Agree(s_allocation, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.ExtendedHeaders));
            peer.Send(Frame.OptionReply(Frame.ExtendedHeaders, error, Frame.Text("no")));
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            SelectAllocation(peer, 7);
            Go(peer);
        });

        Assert.True(connection.Export.StructuredReplies);
        Assert.False(connection.Export.ExtendedHeaders);
        Assert.Equal([Allocation], connection.Export.MetaContexts);
        Assert.Equal([7u], connection.ContextIds);
    }

    [Theory]
    [MemberData(nameof(Errors))]
    public void Without_structured_replies_there_are_no_meta_contexts(uint error)
    {
        NegotiatedConnection connection = Negotiation.Agree(s_allocation with { ExtendedHeaders = false }, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, error, Frame.Text("no")));
            Go(peer);
        });

        Assert.False(connection.Export.StructuredReplies);
        Assert.Empty(connection.Export.MetaContexts);
    }

    [Fact]
    public void Extended_headers_make_their_flags_known()
    {
        NegotiatedConnection connection = Negotiation.Agree(s_allocation, peer =>
        {
            peer.AgreeToExtendedHeaders();
            SelectAllocation(peer, 1);
            Go(peer, flags: 0x1081);
        });

        Assert.Equal(
            NbdTransmissionFlags.HasFlags
                | NbdTransmissionFlags.SendDontFragment
                | NbdTransmissionFlags.BlockStatusPayload,
            connection.Export.Flags);
    }

    [Fact]
    public void Extended_headers_can_be_asked_for_without_meta_contexts()
    {
        Assert.True(Negotiation.Agree(new NbdClientOptions { ExtendedHeaders = true }, peer =>
        {
            peer.AgreeToExtendedHeaders();
            Go(peer);
        }).Export.ExtendedHeaders);
    }

    [Fact]
    public void A_server_that_insists_on_extended_headers_gets_them_and_the_contexts_again()
    {
        NegotiatedConnection connection = Negotiation.Agree(s_allocation with { ExtendedHeaders = false }, peer =>
        {
            peer.AgreeToStructuredReplies();
            SelectAllocation(peer, 1);
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.ExportInfo(1, 1) + Frame.OptionReply(Frame.Go, 0x8000000a));
            peer.Expect(Frame.Option(Frame.ExtendedHeaders));
            peer.Send(Frame.OptionReply(Frame.ExtendedHeaders, Frame.Ack));
            SelectAllocation(peer, 2);
            Go(peer);
        });

        Assert.True(connection.Export.ExtendedHeaders);
        Assert.Equal([2u], connection.ContextIds);
        Assert.Equal(1 << 20, connection.Export.SizeBytes);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_server_that_insists_and_does_not_agree_is_left(bool agreed)
    {
        NbdException exception = Negotiation.Refuse(new NbdClientOptions { ExtendedHeaders = agreed }, peer =>
        {
            peer.Greet();
            if (agreed)
            {
                peer.Expect(Frame.Option(Frame.ExtendedHeaders));
                peer.Send(Frame.OptionReply(Frame.ExtendedHeaders, Frame.Ack));
            }
            else
            {
                peer.Expect(Frame.Option(Frame.StructuredReply));
                peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            }

            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.OptionReply(Frame.Go, 0x8000000a));
            if (!agreed)
            {
                peer.Expect(Frame.Option(Frame.ExtendedHeaders));
                peer.Send(Frame.OptionReply(Frame.ExtendedHeaders, 0x80000001));
            }

            peer.ExpectAbort();
        });

        Assert.Contains("requires extended headers, which were not agreed on", exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Fact]
    public void Extended_headers_without_GO_are_a_contradiction()
    {
        NbdException exception = Negotiation.Refuse(new NbdClientOptions { ExtendedHeaders = true }, peer =>
        {
            peer.AgreeToExtendedHeaders();
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000001));
            peer.ExpectAbort();
        });

        Assert.Contains("agreed to extended headers, but does not know NBD_OPT_GO", exception.Message);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }

    [Theory]
    [InlineData(Frame.ExtendedHeaders)]
    [InlineData(Frame.SetMetaContext)]
    public void Wrong_answers_end_the_connection(uint option)
    {
        foreach (string answer in new[]
        {
            Frame.OptionReply(option, Frame.Server, "00000000"),
            Frame.OptionReply(option, Frame.Ack, "00"),
            Frame.OptionReply(Frame.Go, Frame.Ack),
            Frame.OptionReplyMagic + Frame.U32(option) + Frame.U32(Frame.Ack) + "ffffffff",
        })
        {
            NbdException exception = Negotiation.Refuse(s_allocation, peer =>
            {
                if (option == Frame.ExtendedHeaders)
                {
                    peer.Send(Frame.Newstyle());
                    peer.Expect(Frame.U32(3) + Frame.Option(Frame.ExtendedHeaders));
                }
                else
                {
                    peer.AgreeToExtendedHeaders();
                    peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Allocation));
                }

                peer.Send(answer);
                peer.ExpectEnd();
            });

            Assert.IsType<NbdProtocolException>(exception);
        }
    }

    [Fact]
    public void Name_and_description_are_asked_for_when_wanted()
    {
        NbdExport export = Negotiation.Agree(new NbdClientOptions { FullInfo = true }, peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.Expect(Frame.Option(
                Frame.Go, Frame.LengthAndText("") + Frame.U16(3) + Frame.U16(1) + Frame.U16(2) + Frame.U16(3)));
            peer.Send(Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(1) + Frame.Text("main")));
            peer.Send(Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(2) + Frame.Text("a\u0007disk")));
            peer.Send(Frame.ExportInfo(1 << 20, 1) + Frame.OptionReply(Frame.Go, Frame.Ack));
        }).Export;

        Assert.Equal(("main", "a?disk"), (export.CanonicalName, export.Description));
    }

    internal static void SelectAllocation(FakePeer peer, uint id)
    {
        peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Allocation));
        peer.Send(
            Frame.MetaContextReply(Frame.SetMetaContext, id, Allocation) + Frame.OptionReply(Frame.SetMetaContext, Frame.Ack));
    }

    internal static void Go(FakePeer peer, int flags = 1)
    {
        peer.Expect(Frame.GoFor(""));
        peer.Send(Frame.ExportInfo(1 << 20, flags) + Frame.OptionReply(Frame.Go, Frame.Ack));
    }
}
