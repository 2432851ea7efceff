using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>LIST, INFO and LIST_META_CONTEXT, and the polite end of a connection that only asked.</summary>
public sealed class ExportListTests
{
    public static TheoryData<uint, string, Errno> Refusals => new()
    {
        { 0x80000001, "has no way to tell about the list of its exports", Errno.EOPNOTSUPP },
        { 0x80000002, "policy forbids the list of its exports (the server says: no?way)", Errno.EACCES },
        { 0x80000003, "request for the list of its exports invalid", Errno.EINVAL },
        { 0x80000004, "platform cannot serve the list of its exports", Errno.EOPNOTSUPP },
        { 0x80000007, "shutting down", Errno.ESHUTDOWN },
        { 0x80001234, "unknown error 0x80001234", Errno.EIO },
    };

    public static TheoryData<string, string> Violations => new()
    {
        { Frame.OptionReply(Frame.List, Frame.Server), "impossible name length" },
        { Frame.OptionReply(Frame.List, Frame.Server, "000000"), "impossible name length" },
        { Frame.OptionReply(Frame.List, Frame.Server, "0000000241"), "impossible name length" },
        { Frame.OptionReply(Frame.List, Frame.Server, Frame.U32(4097) + Frame.Zeroes(4097)), "impossible name length" },
        { Frame.OptionReply(Frame.List, Frame.Info, Frame.U16(0)), "NBD_OPT_LIST with reply type 3" },
        { Frame.OptionReply(Frame.List, Frame.Ack, "00"), "NBD_REP_ACK to NBD_OPT_LIST has 1 bytes" },
        { Frame.OptionReply(Frame.Go, Frame.Ack), "answered option 7 when NBD_OPT_LIST was sent" },
        { Frame.OptionReplyMagic + Frame.U32(3) + Frame.U32(2) + "7fffffff", "claims 2147483647 bytes" },
    };

    [Fact]
    public async Task Names_come_as_they_are_and_descriptions_printable()
    {
        IReadOnlyList<NbdListedExport> exports = await ListAsync(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.List));
            peer.Send(Frame.ServerEntry("disk", "the\u001b[2Jfirst") + Frame.ServerEntry(""));
            peer.Send(Frame.ServerEntry("\u00e4\n") + Frame.ServerEntry(new string('n', 4096), new string('d', 9000)));
            peer.Send(Frame.OptionReply(Frame.List, Frame.Ack));
            peer.ExpectAbort();
        });

        Assert.Equal(["disk", "", "\u00e4\n", new string('n', 4096)], exports.Select(export => export.Name));
        Assert.Equal(["the?[2Jfirst", "", ""], exports.Take(3).Select(export => export.Description));
        Assert.StartsWith("ddd", exports[3].Description);
        Assert.All(exports, export => Assert.Null(export.Export));
    }

    [Fact]
    public async Task A_server_may_have_no_exports()
    {
        Assert.Empty(await ListAsync(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.List));
            peer.Send(Frame.OptionReply(Frame.List, Frame.Ack));
            peer.ExpectAbort();
        }));
    }

    [Fact]
    public async Task Details_are_asked_for_each_export_and_may_be_refused_for_one()
    {
        IReadOnlyList<NbdListedExport> exports = await ListAsync(
            peer =>
            {
                peer.Greet();
                peer.Expect(Frame.Option(Frame.StructuredReply));
                peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
                peer.Expect(Frame.Option(Frame.List));
                peer.Send(Frame.ServerEntry("a") + Frame.ServerEntry("b") + Frame.ServerEntry("c"));
                peer.Send(Frame.OptionReply(Frame.List, Frame.Ack));
                peer.Expect(Frame.InfoFor("a"));
                AnswerInfo(peer, 4096, 0x83);
                peer.Expect(Frame.MetaContextFor(Frame.ListMetaContext, "a"));
                // Ids mean nothing here.
                foreach (string context in (string[])["qemu:dirty-bitmap:x", "base:allocation", "base:allocation"])
                {
                    peer.Send(Frame.MetaContextReply(Frame.ListMetaContext, 0, context));
                }

                peer.Send(Frame.OptionReply(Frame.ListMetaContext, Frame.Ack));
                peer.Expect(Frame.InfoFor("b"));
                peer.Send(Frame.OptionReply(Frame.InfoOption, 0x80000006, Frame.Text("gone")));
                peer.Expect(Frame.InfoFor("c"));
                AnswerInfo(peer, 8192, 1);
                peer.Expect(Frame.MetaContextFor(Frame.ListMetaContext, "c"));
                peer.Send(Frame.MetaContextReply(Frame.ListMetaContext, 0, "base:allocation"));
                peer.Send(Frame.OptionReply(Frame.ListMetaContext, 0x80000001));
                peer.ExpectAbort();
            },
            withDetails: true);

        NbdExport first = exports[0].Export!;
        Assert.Equal(("a", 4096L, true, true), (first.Name, first.SizeBytes, first.IsReadOnly, first.CanDontFragment));
        Assert.Equal(("canonical", "a disk", 512), (first.CanonicalName, first.Description, first.MinimumBlockBytes));
        Assert.Equal(["base:allocation", "qemu:dirty-bitmap:x"], first.MetaContexts);
        Assert.Null(exports[1].Export);
        Assert.Equal(Errno.ENOENT, exports[1].Refusal!.Errno);
        Assert.Contains("no export named 'b' (the server says: gone)", exports[1].Refusal!.Message);
        Assert.Equal(8192, exports[2].Export!.SizeBytes);
        Assert.Empty(exports[2].Export!.MetaContexts);
    }

    [Theory]
    [MemberData(nameof(Refusals))]
    public async Task A_list_that_is_refused_is_an_error(uint reply, string message, Errno errno)
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => ListAsync(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.List));
            peer.Send(Frame.ServerEntry("a") + Frame.OptionReply(Frame.List, reply, Frame.Text("no\u0007way")));
            peer.ExpectAbort();
        }));

        Assert.Contains(message, exception.Message);
        Assert.Equal(errno, exception.Errno);
    }

    [Theory]
    [MemberData(nameof(Violations))]
    public async Task A_malformed_list_ends_the_connection(string list, string message)
    {
        NbdException exception = await Assert.ThrowsAsync<NbdProtocolException>(() => ListAsync(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.List));
            peer.Send(list);
            peer.Drain();
        }));

        Assert.Contains(message, exception.Message);
    }

    [Fact]
    public async Task An_endless_list_is_an_error()
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => ListAsync(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.List));
            peer.SendForEver(Frame.ServerEntry("again"));
        }));

        Assert.Contains("lists more than 10000 exports", exception.Message);
        Assert.Equal(Errno.EOVERFLOW, exception.Errno);
    }

    [Fact]
    public async Task A_list_of_endless_texts_is_cut_at_64_MiB()
    {
        NbdException exception = await Assert.ThrowsAsync<NbdProtocolException>(() => ListAsync(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.List));
            peer.SendForEver(Frame.ServerEntry("again", new string('x', 1_000_000)));
        }));

        Assert.Contains("more than 67108864 bytes before the end of the handshake", exception.Message);
    }

    [Fact]
    public async Task A_list_that_does_not_come_costs_no_more_than_the_time_limit()
    {
        using FakeNbdServer server = new(peer => peer.Drain());

        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => NbdClient.ListExportsAsync(
            server.Endpoint,
            new NbdClientOptions { ConnectTimeout = TimeSpan.FromMilliseconds(50) },
            cancellationToken: TestContext.Current.CancellationToken));

        Assert.EndsWith(
            "the server did not answer within the time limit while we were waiting for its greeting", exception.Message);
        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
        server.Finish();
    }

    [Fact]
    public async Task An_oldstyle_server_has_one_export_without_a_name()
    {
        NbdListedExport export = Assert.Single(await ListAsync(
            peer =>
            {
                peer.Send(Frame.Oldstyle(4096, 0, 3));
                peer.ExpectEnd();
            },
            withDetails: true));

        Assert.Equal(("", 4096L), (export.Name, export.Export!.SizeBytes));
    }

    [Fact]
    public async Task A_server_that_is_not_fixed_cannot_be_asked()
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => ListAsync(peer =>
        {
            peer.Send(Frame.Newstyle(0));
            peer.Expect(Frame.U32(0));
            peer.ExpectEnd();
        }));

        Assert.Contains("does not speak the fixed newstyle protocol, so it cannot list its exports", exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Fact]
    public async Task INFO_tells_about_one_export_without_opening_it()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, 0x80000001));
            peer.Expect(Frame.InfoFor("x"));
            AnswerInfo(peer, 4096, 1);
            peer.ExpectAbort();
        });

        NbdExport export = await NbdClient.GetExportAsync(
            server.Endpoint, "x", cancellationToken: TestContext.Current.CancellationToken);

        server.Finish();
        Assert.Equal(("x", 4096L), (export.Name, export.SizeBytes));
        Assert.Empty(export.MetaContexts);
    }

    [Theory]
    [InlineData(0x80000001, "has no way to tell about export 'x'", Errno.EOPNOTSUPP)]
    [InlineData(0x80000006, "no export named 'x'", Errno.ENOENT)]
    [InlineData(0x8000000a, "requires extended headers", Errno.EOPNOTSUPP)]
    public async Task INFO_may_be_refused(uint reply, string message, Errno errno)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.Expect(Frame.InfoFor("x"));
            peer.Send(Frame.OptionReply(Frame.InfoOption, reply));
            if (reply == 0x8000000a)
            {
                peer.Expect(Frame.Option(Frame.ExtendedHeaders));
                peer.Send(Frame.OptionReply(Frame.ExtendedHeaders, 0x80000001));
            }

            peer.ExpectAbort();
        });

        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => NbdClient.GetExportAsync(
            server.Endpoint, "x", cancellationToken: TestContext.Current.CancellationToken));

        server.Finish();
        Assert.Contains(message, exception.Message);
        Assert.Equal(errno, exception.Errno);
    }

    private static void AnswerInfo(FakePeer peer, ulong size, int flags)
    {
        string Info(string data) => Frame.OptionReply(Frame.InfoOption, Frame.Info, data);
        peer.Send(Info(Frame.U16(2) + Frame.Text("a disk")) + Info(Frame.U16(1) + Frame.Text("canonical")));
        peer.Send(Info(Frame.U16(3) + Frame.U32(512) + Frame.U32(4096) + Frame.U32(65536)));
        peer.Send(Info(Frame.U16(0) + Frame.U64(size) + Frame.U16(flags)));
        peer.Send(Frame.OptionReply(Frame.InfoOption, Frame.Ack));
    }

    private static async Task<IReadOnlyList<NbdListedExport>> ListAsync(
        Action<FakePeer> script, bool withDetails = false)
    {
        using FakeNbdServer server = new(script);
        try
        {
            return await NbdClient.ListExportsAsync(
                server.Endpoint,
                withDetails: withDetails,
                cancellationToken: TestContext.Current.CancellationToken);
        }
        finally
        {
            server.Finish();
        }
    }
}
