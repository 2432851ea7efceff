using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>The handshake option by option: what goes out when, and what is left after each answer.</summary>
public sealed class NegotiationTests
{
    private const string Allocation = OptionTests.Allocation;
    private const string Dirty = "qemu:dirty-bitmap:b0";

    /// <summary>All but SHUTDOWN, which is the end.</summary>
    public static TheoryData<uint> Errors =>
    [
        0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000005, 0x80000006, 0x80000008, 0x80000009, 0x8000000a, 0x80001234,
    ];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Options_go_out_in_the_order_of_the_steps_and_as_often_as_wanted()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.Answer(Frame.Option(Frame.List), Frame.ServerEntry("a", "first") + Frame.ServerEntry("b"), Frame.List);
            AnswerInfo(peer, "a", 512);
            peer.Answer(Frame.Option(Frame.StructuredReply), "", Frame.StructuredReply);
            peer.Answer(
                Frame.MetaContextFor(Frame.ListMetaContext, "b", "base:", "qemu:"),
                Frame.MetaContextReply(Frame.ListMetaContext, 0, Dirty)
                    + Frame.MetaContextReply(Frame.ListMetaContext, 0, Allocation),
                Frame.ListMetaContext);
            peer.Answer(Frame.Option(Frame.List), "", Frame.List);
            AnswerSet(peer, "b", (8, Dirty), (9, Allocation));
            AnswerInfo(peer, "a", 512);
            AnswerInfo(peer, "b", 4096);
            AnswerGo(peer, "b", 4096);
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);

        Assert.True(negotiation.TakesOptions);
        Assert.False(negotiation.StructuredReplies);
        Assert.Equal(
            [("a", "first"), ("b", "")],
            (await negotiation.ListExportsAsync(Token)).Select(export => (export.Name, export.Description)));
        Assert.Equal(512, (await negotiation.InfoAsync("a", Token)).SizeBytes);
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        Assert.True(negotiation.StructuredReplies);
        Assert.Equal([Dirty, Allocation], await negotiation.ListMetaContextsAsync("b", ["base:", "qemu:"], Token));
        Assert.Empty(await negotiation.ListExportsAsync(Token));
        Assert.Equal([Allocation, Dirty], await negotiation.SetMetaContextsAsync("b", [Dirty, Allocation], Token));
        Assert.Empty((await negotiation.InfoAsync("a", Token)).MetaContexts);
        Assert.Equal([Allocation, Dirty], (await negotiation.InfoAsync("b", Token)).MetaContexts);
        await using (NbdClient client = await negotiation.GoAsync("b", Token))
        {
            Assert.Equal(("b", 4096L, 1), (client.Export.Name, client.SizeBytes, client.ConnectionCount));
            Assert.Equal([Allocation, Dirty], client.Export.MetaContexts);
        }

        server.Finish();
    }

    [Theory]
    [MemberData(nameof(Errors))]
    public async Task An_error_reply_leaves_the_connection_usable(uint error)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            Refuse(peer, Frame.Option(Frame.ExtendedHeaders), Frame.ExtendedHeaders, error);
            Refuse(peer, Frame.Option(Frame.StructuredReply), Frame.StructuredReply, error);
            Refuse(peer, Frame.Option(Frame.List), Frame.List, error);
            Refuse(peer, Frame.InfoFor("a"), Frame.InfoOption, error);
            Refuse(peer, Frame.MetaContextFor(Frame.ListMetaContext, "a"), Frame.ListMetaContext, error);
            peer.Answer(Frame.Option(Frame.StructuredReply), "", Frame.StructuredReply);
            Refuse(peer, Frame.MetaContextFor(Frame.SetMetaContext, "a", Allocation), Frame.SetMetaContext, error);
            if (error != 0x80000001)
            {
                Refuse(peer, Frame.GoFor("a"), Frame.Go, error);
            }

            AnswerGo(peer, "b", 4096);
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);

        Assert.False(await negotiation.RequestExtendedHeadersAsync(Token));
        Assert.False(await negotiation.RequestStructuredRepliesAsync(Token));
        await Assert.ThrowsAsync<NbdException>(() => negotiation.ListExportsAsync(Token));
        await Assert.ThrowsAsync<NbdException>(() => negotiation.InfoAsync("a", Token));
        await Assert.ThrowsAsync<NbdException>(() => negotiation.ListMetaContextsAsync("a", [], Token));
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        await Assert.ThrowsAsync<NbdException>(() => negotiation.SetMetaContextsAsync("a", [Allocation], Token));
        if (error != 0x80000001)
        {
            await Assert.ThrowsAsync<NbdException>(() => negotiation.GoAsync("a", Token));
        }

        Assert.True(negotiation.IsOpen);
        await using (NbdClient client = await negotiation.GoAsync("b", Token))
        {
            Assert.Equal("b", client.Export.Name);
        }

        server.Finish();
    }

    [Fact]
    public async Task A_server_that_is_shutting_down_is_left()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            Refuse(peer, Frame.Option(Frame.StructuredReply), Frame.StructuredReply, 0x80000007);
            peer.ExpectAbort();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);

        NbdException exception =
            await Assert.ThrowsAsync<NbdException>(() => negotiation.RequestStructuredRepliesAsync(Token));

        server.Finish();
        Assert.Equal(Errno.ESHUTDOWN, exception.Errno);
        Assert.False(negotiation.IsOpen);
        NbdException later = await Assert.ThrowsAsync<NbdException>(() => negotiation.InfoAsync("a", Token));
        Assert.Contains("ended at an earlier step", later.Message);
        Assert.Equal(Errno.ESHUTDOWN, later.Errno);
    }

    [Theory]
    [InlineData("a", "b")]
    [InlineData("b", "a")]
    public async Task Meta_contexts_of_another_export_are_gone(string selected, string opened)
    {
        await CheckNoContexts(
            opened,
            peer => AnswerSet(peer, selected, (1, Allocation)),
            async negotiation => Assert.Single(await negotiation.SetMetaContextsAsync(selected, [Allocation], Token)));
    }

    [Fact]
    public async Task Meta_contexts_are_gone_when_the_next_ones_are_refused_or_none()
    {
        await CheckNoContexts(
            "a",
            peer =>
            {
                AnswerSet(peer, "a", (1, Allocation));
                Refuse(peer, Frame.MetaContextFor(Frame.SetMetaContext, "a", Dirty), Frame.SetMetaContext, 0x80000003);
            },
            async negotiation =>
            {
                Assert.Single(await negotiation.SetMetaContextsAsync("a", [Allocation], Token));
                await Assert.ThrowsAsync<NbdException>(() => negotiation.SetMetaContextsAsync("a", [Dirty], Token));
            });
        await CheckNoContexts(
            "a",
            peer =>
            {
                AnswerSet(peer, "a", (1, Allocation));
                peer.Answer(Frame.MetaContextFor(Frame.SetMetaContext, "a"), "", Frame.SetMetaContext);
            },
            async negotiation =>
            {
                Assert.Single(await negotiation.SetMetaContextsAsync("a", [Allocation], Token));
                Assert.Empty(await negotiation.SetMetaContextsAsync("a", [], Token));
            });
    }

    [Fact]
    public async Task Meta_contexts_need_structured_replies_which_is_checked_before_anything_is_sent()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.AgreeToExtendedHeaders();
            AnswerSet(peer, "a", (1, Allocation));
            peer.ExpectAbort();
        });
        await using (NbdNegotiation negotiation = await ConnectAsync(server))
        {
            NbdException exception = await Assert.ThrowsAsync<NbdException>(
                () => negotiation.SetMetaContextsAsync("a", [Allocation], Token));

            Assert.Equal(Errno.EINVAL, exception.Errno);
            Assert.True(await negotiation.RequestExtendedHeadersAsync(Token));
            Assert.True(negotiation.StructuredReplies);
            // Both are agreed on: nothing to ask for.
            Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
            Assert.True(await negotiation.RequestExtendedHeadersAsync(Token));
            Assert.Single(await negotiation.SetMetaContextsAsync("a", [Allocation], Token));
        }

        server.Finish();
    }

    [Fact]
    public async Task A_server_that_insists_on_extended_headers_is_not_given_them_unasked()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            Refuse(peer, Frame.GoFor("a"), Frame.Go, 0x8000000a);
            peer.Answer(Frame.Option(Frame.ExtendedHeaders), "", Frame.ExtendedHeaders);
            AnswerGo(peer, "a", 4096);
            peer.IsExtended = true;
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);

        Assert.Contains(
            "requires extended headers, which were not agreed on",
            (await Assert.ThrowsAsync<NbdException>(() => negotiation.GoAsync("a", Token))).Message);
        Assert.True(await negotiation.RequestExtendedHeadersAsync(Token));
        await using (NbdClient client = await negotiation.GoAsync("a", Token))
        {
            Assert.True(client.Export.ExtendedHeaders);
        }

        server.Finish();
    }

    [Fact]
    public async Task A_server_without_GO_is_asked_by_EXPORT_NAME()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            Refuse(peer, Frame.InfoFor("a"), Frame.InfoOption, 0x80000001);
            Refuse(peer, Frame.GoFor("a"), Frame.Go, 0x80000001);
            peer.Expect(Frame.Option(Frame.ExportName, Frame.Text("a")));
            peer.Send(Frame.U64(4096) + Frame.U16(1));
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);

        Assert.Equal(
            Errno.EOPNOTSUPP, (await Assert.ThrowsAsync<NbdException>(() => negotiation.InfoAsync("a", Token))).Errno);
        await using (NbdClient client = await negotiation.GoAsync("a", Token))
        {
            Assert.Equal(4096, client.SizeBytes);
        }

        server.Finish();
    }

    [Fact]
    public async Task A_newstyle_server_that_is_not_fixed_has_no_options_but_exports()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Send(Frame.Newstyle(0));
            peer.Expect(Frame.U32(0) + Frame.Option(Frame.ExportName, Frame.Text("a")));
            peer.Send(Frame.U64(4096) + Frame.U16(1) + Frame.Zeroes(124));
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);

        Assert.False(negotiation.TakesOptions);
        Assert.False(await negotiation.RequestStructuredRepliesAsync(Token));
        Assert.False(await negotiation.RequestExtendedHeadersAsync(Token));
        foreach (Func<Task> step in (Func<Task>[])[
            () => negotiation.ListExportsAsync(Token),
            () => negotiation.InfoAsync("a", Token),
            () => negotiation.ListMetaContextsAsync("a", [], Token),
            () => negotiation.SetMetaContextsAsync("a", [Allocation], Token)])
        {
            Assert.Equal(Errno.EOPNOTSUPP, (await Assert.ThrowsAsync<NbdException>(step)).Errno);
        }

        Assert.True(negotiation.IsOpen);
        await using (NbdClient client = await negotiation.GoAsync("a", Token))
        {
            Assert.Equal(4096, client.SizeBytes);
        }

        server.Finish();
    }

    [Fact]
    public async Task An_oldstyle_server_has_said_everything()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Send(Frame.Oldstyle(4096, 0, 1));
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);

        Assert.Equal("", Assert.Single(await negotiation.ListExportsAsync(Token)).Name);
        Assert.Equal(4096, (await negotiation.InfoAsync("", Token)).SizeBytes);
        Assert.Equal(Errno.ENOENT, (await Assert.ThrowsAsync<NbdException>(() => negotiation.GoAsync("a", Token))).Errno);
        await using (NbdClient client = await negotiation.GoAsync("", Token))
        {
            Assert.Equal(4096, client.SizeBytes);
        }

        server.Finish();
    }

    private static async Task CheckNoContexts(
        string opened, Action<FakePeer> script, Func<NbdNegotiation, Task> select)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.AgreeToStructuredReplies();
            script(peer);
            AnswerGo(peer, opened, 4096);
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await ConnectAsync(server);
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        await select(negotiation);

        await using (NbdClient client = await negotiation.GoAsync(opened, Token))
        {
            Assert.Empty(client.Export.MetaContexts);
        }

        server.Finish();
    }

    internal static Task<NbdNegotiation> ConnectAsync(FakeNbdServer server, NbdClientOptions? options = null) =>
        NbdNegotiation.ConnectAsync(server.Endpoint, options, Token);

    internal static void AnswerSet(FakePeer peer, string exportName, params (uint Id, string Name)[] contexts) => peer.Answer(
        Frame.MetaContextFor(Frame.SetMetaContext, exportName, [.. contexts.Select(context => context.Name)]),
        string.Concat(contexts.Select(context => Frame.MetaContextReply(Frame.SetMetaContext, context.Id, context.Name))),
        Frame.SetMetaContext);

    internal static void AnswerGo(FakePeer peer, string exportName, ulong size) =>
        peer.Answer(Frame.GoFor(exportName), Frame.ExportInfo(size, 1), Frame.Go);

    private static void AnswerInfo(FakePeer peer, string exportName, ulong size) => peer.Answer(
        Frame.InfoFor(exportName),
        Frame.OptionReply(Frame.InfoOption, Frame.Info, Frame.U16(0) + Frame.U64(size) + Frame.U16(1)),
        Frame.InfoOption);

    private static void Refuse(FakePeer peer, string option, uint number, uint error)
    {
        peer.Expect(option);
        peer.Send(Frame.OptionReply(number, error, Frame.Text("no")));
    }
}
