using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>EXTENDED_HEADERS, STRUCTURED_REPLY and SET_META_CONTEXT: what is asked for when, and each answer.</summary>
public sealed class OptionTests
{
    private const string Allocation = "base:allocation";
    private static readonly NbdClientOptions s_allocation = new() { MetaContexts = [Allocation] };

    public static TheoryData<uint> Errors =>
    [
        0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008, 0x80000009,
        0x8000000a, 0x80001234,
    ];

    /// <summary>Answers to SET_META_CONTEXT that end the connection.</summary>
    public static TheoryData<string, string> BrokenContexts => new()
    {
        { Reply(4, Frame.U32(1)), "NBD_REP_META_CONTEXT cannot have 4 bytes" },
        { Reply(4, ""), "NBD_REP_META_CONTEXT cannot have 0 bytes" },
        { Reply(4, Frame.U32(1) + Frame.Zeroes(4097)), "NBD_REP_META_CONTEXT cannot have 4101 bytes" },
        { Reply(4, Frame.U32(1) + Frame.Zeroes(100_000)), "NBD_REP_META_CONTEXT cannot have 100004 bytes" },
        { Reply(Frame.Info, Frame.U16(0)), "NBD_OPT_SET_META_CONTEXT with reply type 3" },
        { Reply(Frame.Ack, "00"), "NBD_REP_ACK to NBD_OPT_SET_META_CONTEXT has 1 bytes" },
        { Frame.OptionReply(Frame.ListMetaContext, Frame.Ack), "answered option 9" },
        { Context(1, "a:b") + Context(1, "a:c") + Reply(Frame.Ack), "'a:c' with id 1 twice" },
        { Context(1, "a:b") + Context(2, "a:b") + Reply(Frame.Ack), "'a:b' with id 2 twice" },
        {
            string.Concat(Enumerable.Range(0, 65).Select(i => Context((uint)i, $"a:{i}"))) + Reply(Frame.Ack),
            "more than 64 of them"
        },
        {
            string.Concat(Enumerable.Range(0, 1001).Select(i => Context((uint)i, $"a:{i}"))),
            "NBD_OPT_SET_META_CONTEXT with more than 1000 replies"
        },
    };

    [Theory]
    [MemberData(nameof(Errors))]
    public void Extended_headers_that_are_refused_leave_structured_replies(uint error)
    {
        NegotiatedConnection connection = Negotiate(s_allocation, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.ExtendedHeaders));
            peer.Send(Frame.OptionReply(Frame.ExtendedHeaders, error, Frame.Text("no")));
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            SelectAllocation(peer, 7);
            Go(peer);
        });

        Assert.True(connection.StructuredReplies);
        Assert.False(connection.Export.ExtendedHeaders);
        Assert.Equal([Allocation], connection.Export.MetaContexts);
        Assert.Equal([7u], connection.ContextIds);
    }

    [Theory]
    [MemberData(nameof(Errors))]
    public void Without_structured_replies_there_are_no_meta_contexts(uint error)
    {
        NegotiatedConnection connection = Negotiate(s_allocation with { ExtendedHeaders = false }, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, error, Frame.Text("no")));
            Go(peer);
        });

        Assert.False(connection.StructuredReplies);
        Assert.Empty(connection.Export.MetaContexts);
    }

    [Theory]
    [MemberData(nameof(Errors))]
    public void Meta_contexts_that_are_refused_do_without(uint error)
    {
        NegotiatedConnection connection = Negotiate(s_allocation, peer =>
        {
            AgreeToExtendedHeaders(peer);
            peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Allocation));
            // What came before an error does not count.
            peer.Send(Context(1, Allocation) + Reply(error, Frame.Text("no")));
            Go(peer, flags: 0x1001);
        });

        Assert.True(connection.Export.ExtendedHeaders);
        Assert.True(connection.StructuredReplies);
        Assert.Empty(connection.Export.MetaContexts);
        Assert.Empty(connection.ContextIds);
        Assert.Equal(NbdTransmissionFlags.HasFlags, connection.Export.Flags);
    }

    [Fact]
    public void Extended_headers_make_their_flags_known()
    {
        NegotiatedConnection connection = Negotiate(s_allocation, peer =>
        {
            AgreeToExtendedHeaders(peer);
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
        Assert.True(Negotiate(new NbdClientOptions { ExtendedHeaders = true }, peer =>
        {
            AgreeToExtendedHeaders(peer);
            Go(peer);
        }).Export.ExtendedHeaders);
    }

    [Fact]
    public void A_server_that_insists_on_extended_headers_gets_them_and_the_contexts_again()
    {
        NegotiatedConnection connection = Negotiate(s_allocation with { ExtendedHeaders = false }, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
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
        NbdException exception = Refuse(new NbdClientOptions { ExtendedHeaders = agreed }, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3));
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

            peer.Expect(Frame.Option(Frame.Abort));
            peer.ExpectEnd();
        });

        Assert.Contains("requires extended headers, to which it did not agree", exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Fact]
    public void Extended_headers_without_GO_are_a_contradiction()
    {
        NbdException exception = Refuse(new NbdClientOptions { ExtendedHeaders = true }, peer =>
        {
            AgreeToExtendedHeaders(peer);
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000001));
            peer.Expect(Frame.Option(Frame.Abort));
            peer.ExpectEnd();
        });

        Assert.Contains("agreed to extended headers, but does not know NBD_OPT_GO", exception.Message);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }

    [Fact]
    public void Meta_contexts_also_serve_a_server_that_only_knows_EXPORT_NAME()
    {
        NegotiatedConnection connection = Negotiate(s_allocation with { ExtendedHeaders = false }, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            SelectAllocation(peer, 1);
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000001));
            peer.Expect(Frame.Option(Frame.ExportName));
            peer.Send(Frame.U64(1 << 20) + Frame.U16(1));
        });

        Assert.Equal([Allocation], connection.Export.MetaContexts);
        Assert.True(connection.StructuredReplies);
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
            NbdException exception = Refuse(s_allocation, peer =>
            {
                if (option == Frame.ExtendedHeaders)
                {
                    peer.Send(Frame.Newstyle());
                    peer.Expect(Frame.U32(3) + Frame.Option(Frame.ExtendedHeaders));
                }
                else
                {
                    AgreeToExtendedHeaders(peer);
                    peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Allocation));
                }

                peer.Send(answer);
                peer.ExpectEnd();
            });

            Assert.IsType<NbdProtocolException>(exception);
        }
    }

    [Theory]
    [MemberData(nameof(BrokenContexts))]
    public void A_malformed_meta_context_ends_the_connection(string answer, string message)
    {
        NbdException exception = Refuse(s_allocation, peer =>
        {
            AgreeToExtendedHeaders(peer);
            peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Allocation));
            peer.Send(answer);
            peer.Drain();
        });

        Assert.Contains(message, exception.Message);
        Assert.IsType<NbdProtocolException>(exception);
    }

    [Theory]
    [InlineData("allocation")]
    [InlineData(":allocation")]
    [InlineData("base:a\0b")]
    [InlineData(null)]
    public void What_cannot_be_the_name_of_a_meta_context_is_refused(string? name)
    {
        NbdException exception = Refuse(
            new NbdClientOptions { MetaContexts = [name ?? $"base:{new string('a', 4092)}"] },
            peer =>
            {
                AgreeToExtendedHeaders(peer);
                peer.Drain();
            });

        Assert.Contains("is not the name of a meta context", exception.Message);
        Assert.Equal(Errno.EINVAL, exception.Errno);
    }

    [Fact]
    public void Sixty_four_meta_contexts_of_the_longest_name_are_possible_and_no_more()
    {
        string[] names = [.. Enumerable.Range(0, 65).Select(i => $"{i:d3}:{new string('\u00e9', 2046)}")];
        NegotiatedConnection connection = Negotiate(new NbdClientOptions { MetaContexts = names[..64] }, peer =>
        {
            AgreeToExtendedHeaders(peer);
            peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", names[..64]));
            peer.Send(string.Concat(Enumerable.Range(0, 64).Reverse().Select(i => Context((uint)i, names[i]))));
            peer.Send(Reply(Frame.Ack));
            Go(peer);
        });
        Assert.Equal(names[..64], connection.Export.MetaContexts);
        Assert.Equal(Enumerable.Range(0, 64).Select(i => (uint)i), connection.ContextIds);

        NbdException exception = Refuse(new NbdClientOptions { MetaContexts = names }, peer =>
        {
            AgreeToExtendedHeaders(peer);
            peer.Drain();
        });
        Assert.Contains("65 meta contexts were asked for; at most 64", exception.Message);
    }

    [Fact]
    public void Name_and_description_are_asked_for_when_wanted()
    {
        NbdExport export = Negotiate(new NbdClientOptions { FullInfo = true }, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.Expect(Frame.Option(
                Frame.Go, Frame.LengthAndText("") + Frame.U16(3) + Frame.U16(1) + Frame.U16(2) + Frame.U16(3)));
            peer.Send(Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(1) + Frame.Text("main")));
            peer.Send(Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(2) + Frame.Text("a\u0007disk")));
            peer.Send(Frame.ExportInfo(1 << 20, 1) + Frame.OptionReply(Frame.Go, Frame.Ack));
        }).Export;

        Assert.Equal(("main", "a?disk"), (export.CanonicalName, export.Description));
    }

    private static string Reply(uint type, string data = "") => Frame.OptionReply(Frame.SetMetaContext, type, data);

    private static string Context(uint id, string name) => Frame.MetaContextReply(Frame.SetMetaContext, id, name);

    private static void AgreeToExtendedHeaders(FakePeer peer)
    {
        peer.Send(Frame.Newstyle());
        peer.Expect(Frame.U32(3) + Frame.Option(Frame.ExtendedHeaders));
        peer.Send(Frame.OptionReply(Frame.ExtendedHeaders, Frame.Ack));
    }

    private static void SelectAllocation(FakePeer peer, uint id)
    {
        peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Allocation));
        peer.Send(Context(id, Allocation) + Reply(Frame.Ack));
    }

    private static void Go(FakePeer peer, int flags = 1)
    {
        peer.Expect(Frame.GoFor(""));
        peer.Send(Frame.ExportInfo(1 << 20, flags) + Frame.OptionReply(Frame.Go, Frame.Ack));
    }

    private static NegotiatedConnection Negotiate(NbdClientOptions options, Action<FakePeer> script)
    {
        using FakeNbdServer server = new(script);
        NegotiatedConnection connection;
        using (SafeFd socket = SocketConnector.Connect(server.Endpoint, HandshakeTests.Soon(), CancellationToken.None))
        {
            connection = NbdHandshake.Run(
                socket, "", "fake", HandshakeTests.Soon(), CancellationToken.None, options);
        }

        server.Finish();
        return connection;
    }

    private static NbdException Refuse(NbdClientOptions options, Action<FakePeer> script)
    {
        using FakeNbdServer server = new(script);
        NbdException exception;
        using (SafeFd socket = SocketConnector.Connect(server.Endpoint, HandshakeTests.Soon(), CancellationToken.None))
        {
            exception = Assert.ThrowsAny<NbdException>(() => NbdHandshake.Run(
                socket, "", "fake", HandshakeTests.Soon(), CancellationToken.None, options));
        }

        server.Finish();
        return exception;
    }
}
