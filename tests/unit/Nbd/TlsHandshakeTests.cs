using System.Security.Cryptography.X509Certificates;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>STARTTLS and the TLS handshake, with servers that agree, refuse, or break it.</summary>
public sealed class TlsHandshakeTests : TlsTest
{
    /// <summary>How a server says no, and what the message must hold.</summary>
    public static TheoryData<uint, string> Refusals => new()
    {
        { 0x80000001, "the server has none (the server says: no?tls)" },
        { 0x80000002, "the server's policy forbids it (the server says: no?tls)" },
        { 0x80000003, "the server refused it with error 0x80000003 (the server says: no?tls)" },
    };

    [Fact]
    public void TLS_comes_first_and_everything_else_goes_through_it()
    {
        using X509Certificate2 certificate = Certificates.Server(Host);
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(exportName: "x", certificate: certificate);
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = Connect(server, Options(), "x"))
        {
            Assert.True(pool.IsEncrypted);
            Assert.Equal(1024 * 1024, pool.Export.SizeBytes);
            pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit);
        }

        server.Finish();
    }

    [Fact]
    public void Without_a_policy_TLS_is_not_asked_for()
    {
        using FakeNbdServer server = new(peer => peer.Handshake());
        using NbdConnectionPool pool = Connect(server, new NbdTlsOptions());

        Assert.False(pool.IsEncrypted);
    }

    [Theory]
    [MemberData(nameof(Refusals))]
    public void A_server_that_refuses_TLS_is_refused_when_it_is_required(uint reply, string message)
    {
        NbdException exception = Refuse(Options(), peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + StartTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, reply, Frame.Text("no\u0007tls")));
            peer.ExpectAbort();
        });

        Assert.Contains("TLS is required, but " + message, exception.Message);
        Assert.Contains("nbd in place of nbds", exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Fact]
    public void A_server_that_refuses_TLS_is_used_when_it_is_only_allowed()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + StartTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, 0x80000001));
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.ExportInfo(512, 1) + Frame.OptionReply(Frame.Go, Frame.Ack));
            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server, Options() with { Policy = NbdTlsPolicy.Allow });

        Assert.False(pool.IsEncrypted);
        Assert.Equal(512, pool.Export.SizeBytes);
    }

    [Fact]
    public void A_server_that_agrees_is_checked_also_when_TLS_is_only_allowed()
    {
        using X509Certificate2 certificate = Certificates.Server("other.example");

        NbdException exception = Refuse(
            Options() with { Policy = NbdTlsPolicy.Allow },
            peer =>
            {
                peer.Greet();
                peer.FailTls(certificate);
            });

        Assert.Contains("hostname mismatch", exception.Message);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Old_protocols_have_no_TLS(bool oldstyle)
    {
        NbdException exception = Refuse(Options(), peer =>
        {
            peer.Send(oldstyle ? Frame.Oldstyle(512, 0, 1) : Frame.Newstyle(2));
            peer.Drain();
        });

        Assert.Contains(
            "TLS is required, but the server " + (oldstyle ? "speaks the oldstyle" : "does not speak the fixed newstyle"),
            exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Fact]
    public void Bytes_between_consent_and_TLS_are_an_attack()
    {
        NbdException exception = Refuse(Options(), peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + StartTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, Frame.Ack) + Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.ExpectEnd();
        });

        Assert.Contains("bytes that are not encrypted follow the server's consent to TLS", exception.Message);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }

    [Fact]
    public void Bytes_that_are_no_TLS_are_said_to_be_none()
    {
        NbdException exception = Refuse(Options(), peer =>
        {
            ConsentAndHear(peer);
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.Drain();
        });

        Assert.Contains("what the server sent is not TLS, or not a kind that we speak", exception.Message);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }

    [Fact]
    public void An_old_version_of_TLS_is_refused()
    {
        NbdException exception = Refuse(Options(), peer =>
        {
            ConsentAndHear(peer);
            // A ServerHello (RFC 5246, section 7.4.1.3) of TLS 1.1: version, random, no session, a cipher, no compression.
            string hello = "0302" + Frame.Zeroes(32) + "00" + "c013" + "00";
            peer.Send("160302002a" + "02000026" + hello);
            peer.Drain();
        });

        Assert.Contains("unsupported protocol", exception.Message);
    }

    [Fact]
    public void What_the_server_says_about_us_is_passed_on()
    {
        NbdException exception = Refuse(Options(), peer =>
        {
            ConsentAndHear(peer);
            // A fatal alert (RFC 5246, section 7.2): handshake_failure.
            peer.Send("15030300020228");
            peer.Drain();
        });

        Assert.Contains("the server says: ", exception.Message);
        Assert.Contains("alert handshake failure; does it want a client certificate", exception.Message);
        Assert.Equal(Errno.EACCES, exception.Errno);
    }

    [Fact]
    public void A_server_that_leaves_during_the_TLS_handshake_is_reported_with_what_it_may_want()
    {
        NbdException exception = Refuse(Options(), ConsentAndHear);

        Assert.Contains(
            "the server closed the connection while we were in the TLS handshake; does it want a client certificate",
            exception.Message);
        Assert.Equal(Errno.ECONNRESET, exception.Errno);
    }

    [Fact]
    public void A_silent_server_costs_no_more_than_the_time_limit()
    {
        using FakePeer peer = FakePeer.Connected(out NbdEndpoint.Fd client);
        // Said before the time begins to run.
        peer.Send(Frame.Newstyle() + Frame.OptionReply(Frame.StartTls, Frame.Ack));

        NbdException exception = Assert.Throws<NbdException>(() => NbdConnectionPool.Connect(
            client,
            "",
            new NbdClientOptions { Tls = Options(), ConnectTimeout = TimeSpan.FromMilliseconds(50) },
            CancellationToken.None));

        Assert.Contains("did not answer within the time limit while we were in the TLS handshake", exception.Message);
        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
    }

    [Fact]
    public void A_server_that_is_silent_after_the_TLS_handshake_costs_no_more_than_the_time_limit()
    {
        using X509Certificate2 certificate = Certificates.Server(Host);

        NbdException exception = Refuse(
            Options(),
            // On a busy machine the time may be over within the TLS handshake.
            peer => _ = Record.Exception(() =>
            {
                Upgrade(peer, certificate);
                peer.Drain();
            }),
            TimeSpan.FromMilliseconds(500));

        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
    }

    [Fact]
    public void Cancellation_ends_the_TLS_handshake_at_once()
    {
        using CancellationTokenSource cancellation = new();
        using FakeNbdServer server = new(peer =>
        {
            ConsentAndHear(peer);
            cancellation.Cancel();
            peer.Drain();
        });

        Assert.Throws<OperationCanceledException>(() => NbdConnectionPool.Connect(
            server.Endpoint, "", new NbdClientOptions { Tls = Options() }, cancellation.Token));
        server.Finish();
    }

    [Fact]
    public async Task A_URI_that_requires_TLS_is_also_asked_about_with_TLS_only()
    {
        Action<FakePeer> refuse = peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + StartTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, 0x80000001));
            peer.ExpectAbort();
        };
        using FakeNbdServer server = new(refuse, refuse);
        string uri = server.Endpoint.FormatUri("", encrypted: true) + "&tls-certificates=" + Folder.FullName;
        CancellationToken token = TestContext.Current.CancellationToken;

        NbdException list = await Assert.ThrowsAsync<NbdException>(
            () => NbdClient.ListExportsAsync(uri, cancellationToken: token));
        NbdException one = await Assert.ThrowsAsync<NbdException>(
            () => NbdClient.GetExportAsync(uri, cancellationToken: token));

        Assert.Contains("TLS is required", list.Message);
        Assert.Contains("TLS is required", one.Message);
        server.Finish();
    }

    [Fact]
    public void A_server_that_demands_TLS_over_TLS_is_broken()
    {
        using X509Certificate2 certificate = Certificates.Server(Host);

        NbdException exception = Refuse(Options(), peer =>
        {
            Upgrade(peer, certificate);
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, 0x80000005));
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000005));
            peer.ExpectAbort();
        });

        Assert.Contains("it says that the default export requires TLS, which is in use", exception.Message);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }
}
