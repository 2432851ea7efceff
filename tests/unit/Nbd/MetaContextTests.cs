using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>SET_META_CONTEXT and LIST_META_CONTEXT: each answer, and what may be asked for.</summary>
public sealed class MetaContextTests
{
    private const string Allocation = OptionTests.Allocation;
    private static readonly NbdClientOptions s_allocation = new() { MetaContexts = [Allocation] };

    public static TheoryData<uint> Errors => OptionTests.Errors;

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
        { Context(1, "a:\u001b[2J") + Context(1, "a:\u0007") + Reply(Frame.Ack), "'a:?' with id 1 twice" },
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
    public void Meta_contexts_that_are_refused_do_without(uint error)
    {
        NegotiatedConnection connection = Negotiation.Agree(s_allocation, peer =>
        {
            peer.AgreeToExtendedHeaders();
            peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", Allocation));
            // What came before an error does not count.
            peer.Send(Context(1, Allocation) + Reply(error, Frame.Text("no")));
            OptionTests.Go(peer, flags: 0x1001);
        });

        Assert.True(connection.Export.ExtendedHeaders);
        Assert.True(connection.Export.StructuredReplies);
        Assert.Empty(connection.Export.MetaContexts);
        Assert.Empty(connection.ContextIds);
        Assert.Equal(NbdTransmissionFlags.HasFlags, connection.Export.Flags);
    }

    [Theory]
    [MemberData(nameof(Errors))]
    public async Task A_list_of_contexts_that_is_refused_leaves_the_facts(uint error)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.AgreeToExtendedHeaders();
            peer.Expect(Frame.InfoFor(""));
            peer.Send(Frame.OptionReply(Frame.InfoOption, Frame.Info, Frame.U16(0) + Frame.U64(4096) + Frame.U16(1)));
            peer.Send(Frame.OptionReply(Frame.InfoOption, Frame.Ack));
            peer.Expect(Frame.MetaContextFor(Frame.ListMetaContext, ""));
            peer.Send(Frame.MetaContextReply(Frame.ListMetaContext, 0, Allocation));
            peer.Send(Frame.OptionReply(Frame.ListMetaContext, error, Frame.Text("no")));
            peer.ExpectAbort();
        });

        NbdExport export = await NbdClient.GetExportAsync(
            server.Endpoint,
            options: new NbdClientOptions { ExtendedHeaders = true },
            cancellationToken: TestContext.Current.CancellationToken);

        server.Finish();
        Assert.Equal(4096, export.SizeBytes);
        Assert.Empty(export.MetaContexts);
    }

    [Fact]
    public async Task Queries_go_in_one_option_and_each_answer_is_told_once_in_the_order_of_the_server()
    {
        IReadOnlyList<string> contexts = await ListAsync(["base:", "qemu:", "qemu:dirty-bitmap:b0"], peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.Expect(Frame.MetaContextFor(Frame.ListMetaContext, "x", "base:", "qemu:", "qemu:dirty-bitmap:b0"));
            foreach (string name in (string[])["qemu:dirty-bitmap:b0", Allocation, "qemu:dirty-bitmap:b0"])
            {
                peer.Send(Frame.MetaContextReply(Frame.ListMetaContext, 0, name));
            }

            peer.Send(Frame.OptionReply(Frame.ListMetaContext, Frame.Ack));
            peer.ExpectAbort();
        });

        Assert.Equal(["qemu:dirty-bitmap:b0", Allocation], contexts);
    }

    [Fact]
    public async Task Without_a_query_all_are_asked_for_and_there_may_be_none()
    {
        Assert.Empty(await ListAsync([], peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.Expect(Frame.MetaContextFor(Frame.ListMetaContext, "x"));
            peer.Send(Frame.OptionReply(Frame.ListMetaContext, Frame.Ack));
            peer.ExpectAbort();
        }));
    }

    [Theory]
    [InlineData(0x80000001, "has no way to tell about the meta contexts of export 'x' (the server says: no)", Errno.EOPNOTSUPP)]
    [InlineData(0x80000002, "policy forbids the meta contexts of export 'x'", Errno.EACCES)]
    [InlineData(0x80000003, "calls our request for the meta contexts of export 'x' invalid", Errno.EINVAL)]
    [InlineData(0x80000005, "requires TLS for the meta contexts of export 'x'", Errno.EOPNOTSUPP)]
    [InlineData(0x80000006, "no export named 'x'", Errno.ENOENT)]
    [InlineData(0x80000007, "shutting down", Errno.ESHUTDOWN)]
    [InlineData(0x80000009, "our request for the meta contexts of export 'x' is too long", Errno.ENAMETOOLONG)]
    [InlineData(0x80001234, "unknown error 0x80001234", Errno.EIO)]
    public async Task Queries_that_are_refused_are_an_error(uint error, string message, Errno errno)
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => ListAsync(["base:"], peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.Expect(Frame.MetaContextFor(Frame.ListMetaContext, "x", "base:"));
            peer.Send(Frame.MetaContextReply(Frame.ListMetaContext, 0, Allocation));
            peer.Send(Frame.OptionReply(Frame.ListMetaContext, error, Frame.Text("no")));
            peer.ExpectAbort();
        }));

        Assert.Contains(message, exception.Message);
        Assert.Equal(errno, exception.Errno);
    }

    [Fact]
    public async Task Without_structured_replies_there_is_nothing_to_query()
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => ListAsync(["base:"], peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, 0x80000001));
            peer.ExpectAbort();
        }));

        Assert.Contains("does not agree to structured replies, without which there are no meta contexts", exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Theory]
    [InlineData("base")]
    [InlineData(":allocation")]
    [InlineData("base:\0")]
    public async Task What_cannot_be_a_query_is_refused(string query)
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => ListAsync([query], peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.ExpectAbort();
        }));

        Assert.Contains("is not the name of a meta context", exception.Message);
        Assert.Equal(Errno.EINVAL, exception.Errno);
    }

    [Fact]
    public void Meta_contexts_also_serve_a_server_that_only_knows_EXPORT_NAME()
    {
        NegotiatedConnection connection = Negotiation.Agree(s_allocation with { ExtendedHeaders = false }, peer =>
        {
            peer.AgreeToStructuredReplies();
            OptionTests.SelectAllocation(peer, 1);
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000001));
            peer.Expect(Frame.Option(Frame.ExportName));
            peer.Send(Frame.U64(1 << 20) + Frame.U16(1));
        });

        Assert.Equal([Allocation], connection.Export.MetaContexts);
        Assert.True(connection.Export.StructuredReplies);
    }

    [Theory]
    [MemberData(nameof(BrokenContexts))]
    public void A_malformed_meta_context_ends_the_connection(string answer, string message)
    {
        NbdException exception = Negotiation.Refuse(s_allocation, peer =>
        {
            peer.AgreeToExtendedHeaders();
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
        NbdException exception = Negotiation.Refuse(
            new NbdClientOptions { MetaContexts = [name ?? $"base:{new string('a', 4092)}"] },
            peer =>
            {
                peer.AgreeToExtendedHeaders();
                peer.Drain();
            });

        Assert.Contains("is not the name of a meta context", exception.Message);
        Assert.Equal(Errno.EINVAL, exception.Errno);
    }

    [Fact]
    public void Sixty_four_meta_contexts_of_the_longest_name_are_possible_and_no_more()
    {
        string[] names = [.. Enumerable.Range(0, 65).Select(i => $"{i:d3}:{new string('\u00e9', 2046)}")];
        NegotiatedConnection connection = Negotiation.Agree(new NbdClientOptions { MetaContexts = names[..64] }, peer =>
        {
            peer.AgreeToExtendedHeaders();
            peer.Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", names[..64]));
            peer.Send(string.Concat(Enumerable.Range(0, 64).Reverse().Select(i => Context((uint)i, names[i]))));
            peer.Send(Reply(Frame.Ack));
            OptionTests.Go(peer);
        });
        Assert.Equal(names[..64], connection.Export.MetaContexts);
        Assert.Equal(Enumerable.Range(0, 64).Select(i => (uint)i), connection.ContextIds);

        NbdException exception = Negotiation.Refuse(new NbdClientOptions { MetaContexts = names }, peer =>
        {
            peer.AgreeToExtendedHeaders();
            peer.Drain();
        });
        Assert.Contains("65 meta contexts were asked for; at most 64", exception.Message);
    }

    private static async Task<IReadOnlyList<string>> ListAsync(string[] queries, Action<FakePeer> script)
    {
        using FakeNbdServer server = new(script);
        try
        {
            return await NbdClient.ListMetaContextsAsync(
                server.Endpoint, "x", queries, cancellationToken: TestContext.Current.CancellationToken);
        }
        finally
        {
            server.Finish();
        }
    }

    private static string Reply(uint type, string data = "") => Frame.OptionReply(Frame.SetMetaContext, type, data);

    private static string Context(uint id, string name) => Frame.MetaContextReply(Frame.SetMetaContext, id, name);
}
