using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Who asks for an export that is not there is told, if possible, which there are.</summary>
public sealed class UnknownExportTests
{
    private const ulong Size = 1024 * 1024;

    [Fact]
    public void An_unknown_export_is_reported_with_the_names_of_the_others()
    {
        NbdException exception = Negotiation.Refuse("x", peer =>
        {
            Negotiation.AnswerUpToGo(peer, "x");
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000006, Frame.Text("not here")));
            peer.Expect(Frame.Option(Frame.List));
            peer.Send(Frame.ServerEntry("a", "first") + Frame.ServerEntry("") + Frame.ServerEntry("b\u001b[2J"));
            peer.Send(Frame.OptionReply(Frame.List, Frame.Ack));
            peer.ExpectAbort();
        });

        Assert.Equal(
            "fake: no export named 'x' (the server says: not here); the server has: 'a', the default export, 'b?[2J'",
            exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    /// <summary>nbdkit calls an export unknown that its plugin cannot open.</summary>
    [Fact]
    public void An_export_that_is_listed_but_cannot_be_opened_is_not_called_missing_only() =>
        Assert.Equal(
            "fake: no export named 'x'; the server lists it all the same: it may be unable to open it (see its own messages)",
            RefuseWithList(
                Frame.ServerEntry("a") + Frame.ServerEntry("x") + Frame.OptionReply(Frame.List, Frame.Ack)).Message);

    [Fact]
    public void A_server_that_has_no_exports_or_does_not_list_them_is_quoted_so()
    {
        Assert.EndsWith("the server has no exports", RefuseWithList(Frame.OptionReply(Frame.List, Frame.Ack)).Message);
        Assert.EndsWith(
            "the server does not list its exports",
            RefuseWithList(Frame.OptionReply(Frame.List, 0x80000002, Frame.Text("secret"))).Message);
    }

    [Fact]
    public void Malformed_lists_change_nothing_but_the_message()
    {
        foreach (string list in new[]
        {
            "",
            Frame.OptionReply(Frame.List, Frame.Server),
            Frame.OptionReply(Frame.List, Frame.Server, "000000"),
            Frame.OptionReply(Frame.List, Frame.Server, "00000002" + "41"),
            Frame.OptionReply(Frame.List, Frame.Server, "ffffffff" + "41"),
            Frame.OptionReply(Frame.List, Frame.Server, Frame.U32(4097) + Frame.Zeroes(4097)),
            Frame.OptionReply(Frame.List, Frame.Ack, "00"),
            Frame.OptionReply(Frame.Go, Frame.Ack),
            Frame.OptionReplyMagic + Frame.U32(3) + Frame.U32(2) + "7fffffff",
        })
        {
            NbdException exception = RefuseWithList(list);

            Assert.Equal("fake: no export named 'x'; the server did not list its exports", exception.Message);
            Assert.Equal(Errno.ENOENT, exception.Errno);
        }
    }

    [Fact]
    public void An_endless_list_is_cut()
    {
        NbdException exception = Negotiation.Refuse("x", peer =>
        {
            RefuseAsUnknown(peer, "x");
            peer.SendForEver(Frame.ServerEntry("again"));
        });

        Assert.EndsWith("'again', ...", exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    [Fact]
    public void A_server_that_hangs_up_after_EXPORT_NAME_has_refused()
    {
        NbdException exception = Negotiation.Refuse("x", peer =>
        {
            peer.Send(Frame.Newstyle(0));
            peer.Expect(Frame.U32(0) + Frame.Option(Frame.ExportName, Frame.Text("x")));
        });

        Assert.Contains("fake: the server refused export 'x' by closing the connection", exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    [Fact]
    public void An_oldstyle_server_has_no_named_export()
    {
        NbdException exception = Negotiation.Refuse("x", peer => peer.Send(Frame.Oldstyle(Size, 0, 1)));

        Assert.Contains("no export named 'x'", exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    private static void RefuseAsUnknown(FakePeer peer, string exportName)
    {
        Negotiation.AnswerUpToGo(peer, exportName);
        peer.Send(Frame.OptionReply(Frame.Go, 0x80000006));
        peer.Expect(Frame.Option(Frame.List));
    }

    private static NbdException RefuseWithList(string list) => Negotiation.Refuse("x", peer =>
    {
        RefuseAsUnknown(peer, "x");
        peer.Send(list);
    });
}
