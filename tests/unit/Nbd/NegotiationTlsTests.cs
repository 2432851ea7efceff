using System.Security.Cryptography.X509Certificates;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>STARTTLS as a step: when it is sent, and what it makes the server forget.</summary>
public sealed class NegotiationTlsTests : TlsTest
{
    private const string Allocation = OptionTests.Allocation;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private NbdClientOptions Allow => new() { Tls = Options() with { Policy = NbdTlsPolicy.Allow } };

    [Fact]
    public async Task What_was_agreed_on_before_is_forgotten()
    {
        using X509Certificate2 certificate = Certificates.Server(Host);
        using FakeNbdServer server = new(peer =>
        {
            peer.AgreeToExtendedHeaders();
            NegotiationTests.AnswerSet(peer, "a", (1, Allocation));
            peer.StartTls(certificate);
            peer.Answer(Frame.Option(Frame.StructuredReply), "", Frame.StructuredReply);
            NegotiationTests.AnswerGo(peer, "a", 4096);
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server, Allow);
        Assert.False(negotiation.IsEncrypted);
        Assert.True(await negotiation.RequestExtendedHeadersAsync(Token));
        Assert.Single(await negotiation.SetMetaContextsAsync("a", [Allocation], Token));

        Assert.True(await negotiation.StartTlsAsync(Token));

        Assert.True(negotiation.IsEncrypted);
        Assert.False(negotiation.ExtendedHeaders);
        Assert.False(negotiation.StructuredReplies);
        Assert.Equal(
            Errno.EINVAL,
            (await Assert.ThrowsAsync<NbdException>(
                () => negotiation.SetMetaContextsAsync("a", [Allocation], Token))).Errno);
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        await using (NbdClient client = await negotiation.GoAsync("a", Token))
        {
            Assert.True(client.IsEncrypted);
            Assert.Empty(client.Export.MetaContexts);
        }

        server.Finish();
    }

    [Fact]
    public async Task Required_TLS_comes_first_and_is_not_asked_for_twice()
    {
        using X509Certificate2 certificate = Certificates.Server(Host);
        using FakeNbdServer server = new(peer =>
        {
            Upgrade(peer, certificate);
            peer.Answer(Frame.Option(Frame.List), Frame.ServerEntry("a"), Frame.List);
            peer.ExpectAbort();
        });
        await using (NbdNegotiation negotiation =
            await NegotiationTests.ConnectAsync(server, new NbdClientOptions { Tls = Options() }))
        {
            Assert.True(negotiation.IsEncrypted);
            Assert.True(await negotiation.StartTlsAsync(Token));
            Assert.Single(await negotiation.ListExportsAsync(Token));
        }

        server.Finish();
    }

    [Fact]
    public async Task A_server_that_refuses_required_TLS_is_left_when_connecting()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.Expect(StartTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, 0x80000001));
            peer.ExpectAbort();
        });

        NbdException exception = await Assert.ThrowsAsync<NbdException>(
            () => NegotiationTests.ConnectAsync(server, new NbdClientOptions { Tls = Options() }));

        server.Finish();
        Assert.Contains("TLS is required, but the server has none", exception.Message);
    }

    [Fact]
    public async Task Allowed_TLS_that_is_refused_leaves_the_connection_as_it_was()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.AgreeToStructuredReplies();
            peer.Expect(StartTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, 0x80000002));
            NegotiationTests.AnswerGo(peer, "", 4096);
            peer.ExpectDisconnect();
        });
        await using NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server, Allow);
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));

        Assert.False(await negotiation.StartTlsAsync(Token));

        Assert.True(negotiation.StructuredReplies);
        await using (NbdClient client = await negotiation.GoAsync("", Token))
        {
            Assert.False(client.IsEncrypted);
        }

        server.Finish();
    }

    [Fact]
    public async Task A_server_that_is_not_to_be_trusted_ends_the_connection()
    {
        using X509Certificate2 certificate = Certificates.Server("other.example");
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.FailTls(certificate);
        });
        await using NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server, Allow);

        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => negotiation.StartTlsAsync(Token));

        server.Finish();
        Assert.Equal(Errno.EACCES, exception.Errno);
        Assert.False(negotiation.IsOpen);
    }

    [Fact]
    public async Task Without_a_policy_there_is_nothing_to_start_TLS_with()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
            peer.ExpectAbort();
        });
        await using (NbdNegotiation negotiation = await NegotiationTests.ConnectAsync(server))
        {
            await Assert.ThrowsAsync<InvalidOperationException>(() => negotiation.StartTlsAsync(Token));
            Assert.True(negotiation.IsOpen);
        }

        server.Finish();
    }
}
