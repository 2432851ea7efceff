using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>How a handshake option by option ends, wanted or not.</summary>
public sealed class NegotiationEndTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Whoever_leaves_sends_ABORT()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.ExpectAbort();
        });
        NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server);

        await negotiation.DisposeAsync();
        await negotiation.DisposeAsync();

        server.Finish();
        Assert.False(negotiation.IsOpen);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => negotiation.InfoAsync("", Token));
    }

    [Fact]
    public async Task After_GO_the_connection_is_the_clients()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            NegotiationTests.AnswerGo(peer, "", 4096);
            FakeRequest request = peer.ReceiveRequest();
            peer.Send(Frame.SimpleReply(0, request.Cookie) + Frame.Zeroes((int)request.Length));
            peer.ExpectDisconnect();
        });
        NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server);
        await using (NbdClient client = await negotiation.GoAsync("", Token))
        {
            await negotiation.DisposeAsync();

            await client.ReadAsync(0, new byte[512], cancellationToken: Token);
            await Assert.ThrowsAsync<ObjectDisposedException>(() => negotiation.ListExportsAsync(Token));
        }

        server.Finish();
    }

    [Fact]
    public async Task A_broken_answer_ends_the_connection_without_another_word()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.Expect(Frame.Option(Frame.List));
            peer.Send(Frame.OptionReply(Frame.Go, Frame.Ack));
            peer.ExpectEnd();
        });
        await using NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server);

        await Assert.ThrowsAsync<NbdProtocolException>(() => negotiation.ListExportsAsync(Token));

        server.Finish();
        Assert.False(negotiation.IsOpen);
        NbdException later = await Assert.ThrowsAsync<NbdException>(() => negotiation.GoAsync("", Token));
        Assert.Equal(Errno.EPROTO, later.Errno);
    }

    [Fact]
    public async Task A_step_without_an_answer_ends_at_its_time_limit()
    {
        using FakePeer peer = FakePeer.Connected(out NbdEndpoint.Fd client);
        // Said before the time begins to run.
        peer.Send(Frame.Newstyle());
        await using NbdNegotiation negotiation = await NbdNegotiation.ConnectAsync(
            client, new NbdClientOptions { ConnectTimeout = TimeSpan.FromMilliseconds(50) }, Token);

        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => negotiation.ListExportsAsync(Token));

        peer.Expect(Frame.U32(3) + Frame.Option(Frame.List));
        peer.ExpectEnd();
        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
        Assert.False(negotiation.IsOpen);
    }

    [Fact]
    public async Task A_step_that_is_cancelled_on_the_way_ends_the_connection()
    {
        using CancellationTokenSource cancellation = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.Answer(Frame.Option(Frame.List), "", Frame.List);
            peer.Expect(Frame.Option(Frame.List));
            cancellation.Cancel();
            peer.ExpectEnd();
        });
        await using NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server);
        Assert.Empty(await negotiation.ListExportsAsync(cancellation.Token));

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => negotiation.ListExportsAsync(cancellation.Token));

        server.Finish();
        Assert.False(negotiation.IsOpen);
    }

    [Fact]
    public async Task The_limit_on_bytes_is_that_of_a_step()
    {
        string most = Frame.ServerEntry("again", new string('x', 1_000_000));
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            for (int step = 0; step < 2; step++)
            {
                peer.Expect(Frame.Option(Frame.List));
                for (int i = 0; i < 40; i++)
                {
                    peer.Send(most);
                }

                peer.Send(Frame.OptionReply(Frame.List, Frame.Ack));
            }

            peer.Drain();
        });
        await using (NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server))
        {
            Assert.Equal(40, (await negotiation.ListExportsAsync(Token)).Count);
            Assert.Equal(40, (await negotiation.ListExportsAsync(Token)).Count);
        }

        server.Finish();
    }

    [Fact]
    public async Task Steps_that_are_begun_together_are_taken_one_after_the_other()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            for (int i = 0; i < 20; i++)
            {
                peer.Expect(Frame.Option(Frame.List));
                // A second option before the answer would be here by then, or break what follows.
                Assert.Equal(0, peer.UnreadBytes);
                peer.Send(Frame.ServerEntry("a") + Frame.OptionReply(Frame.List, Frame.Ack));
            }

            peer.ExpectAbort();
        });
        await using (NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server))
        {
            IReadOnlyList<NbdListedExport>[] lists =
                await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => negotiation.ListExportsAsync(Token)));

            Assert.All(lists, list => Assert.Equal("a", Assert.Single(list).Name));
        }

        server.Finish();
    }

    [Fact]
    public async Task A_greeting_that_is_none_is_an_error_when_connecting()
    {
        using FakeNbdServer server = new(peer => peer.SendAndShutDown(new byte[16]));

        NbdException exception = await Assert.ThrowsAsync<NbdProtocolException>(() => NegotiationTests.ConnectAsync(server));

        server.Finish();
        Assert.Contains("is not an NBD server", exception.Message);
    }
}
