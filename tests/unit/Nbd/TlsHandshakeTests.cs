using System.Security.Cryptography.X509Certificates;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>STARTTLS and the TLS handshake, with servers that agree, refuse, or should not be trusted.</summary>
public sealed class TlsHandshakeTests : IDisposable
{
    private const string Host = "server.example";

    private static readonly string s_startTls = Frame.Option(Frame.StartTls);

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("nbd-tls-");
    private readonly TestCertificates _certificates;

    public TlsHandshakeTests()
    {
        _certificates = new TestCertificates(_folder.FullName);
    }

    /// <summary>How a server says no, and what the message must hold.</summary>
    public static TheoryData<uint, string> Refusals => new()
    {
        { 0x80000001, "the server has none (the server says: no?tls)" },
        { 0x80000002, "the server's policy forbids it (the server says: no?tls)" },
        { 0x80000003, "the server refused it with error 0x80000003 (the server says: no?tls)" },
    };

    public void Dispose()
    {
        _certificates.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public void TLS_comes_first_and_everything_else_goes_through_it()
    {
        using X509Certificate2 certificate = _certificates.Server(Host);
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
            peer.Expect(Frame.U32(3) + s_startTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, reply, Frame.Text("no\u0007tls")));
            peer.Expect(Frame.Option(Frame.Abort));
            peer.ExpectEnd();
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
            peer.Expect(Frame.U32(3) + s_startTls);
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
        using X509Certificate2 certificate = _certificates.Server("other.example");

        NbdException exception = Refuse(
            Options() with { Policy = NbdTlsPolicy.Allow },
            peer =>
            {
                peer.Send(Frame.Newstyle());
                peer.Expect(Frame.U32(3));
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
            peer.Expect(Frame.U32(3) + s_startTls);
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
        NbdException exception = Refuse(
            Options(),
            peer =>
            {
                ConsentAndHear(peer);
                peer.Drain();
            },
            TimeSpan.FromMilliseconds(100));

        Assert.Contains("did not answer within the time limit while we were in the TLS handshake", exception.Message);
        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
    }

    [Fact]
    public void A_server_that_is_silent_after_the_TLS_handshake_costs_no_more_than_the_time_limit()
    {
        using X509Certificate2 certificate = _certificates.Server(Host);

        NbdException exception = Refuse(
            Options(),
            peer =>
            {
                Upgrade(peer, certificate);
                peer.Drain();
            },
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
    public void A_certificate_for_another_name_is_refused()
    {
        using X509Certificate2 certificate = _certificates.Server("other.example");

        NbdException exception = RefuseServer(Options(), certificate);

        Assert.Contains("hostname mismatch; it is for another server than 'server.example'", exception.Message);
    }

    [Theory]
    [InlineData("*.server.example", true)]
    [InlineData("*.example", false)]
    [InlineData("a*.server.example", false)]
    [InlineData("*", false)]
    public void A_wildcard_stands_for_one_whole_label(string name, bool matches)
    {
        using X509Certificate2 certificate = _certificates.Server(name);
        NbdTlsOptions options = Options() with { HostName = "a." + Host };
        if (matches)
        {
            Accept(options, certificate);
        }
        else
        {
            Assert.Contains("hostname mismatch", RefuseServer(options, certificate).Message);
        }
    }

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("::1")]
    public void An_address_is_compared_with_the_addresses_of_the_certificate(string address)
    {
        using X509Certificate2 right = _certificates.Server("x.example", address);
        using X509Certificate2 wrong = _certificates.Server("x.example", "192.0.2.1");

        Accept(Options() with { HostName = address }, right);
        NbdException exception = RefuseServer(Options() with { HostName = address }, wrong);

        Assert.Contains($"IP address mismatch; it is for another server than '{address}'", exception.Message);
    }

    [Fact]
    public void An_expired_certificate_is_refused()
    {
        using X509Certificate2 certificate = _certificates.ExpiredServer(Host);

        Assert.Contains("certificate has expired; it must be renewed", RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void A_certificate_of_another_authority_is_refused()
    {
        using TestCertificates others = new(_folder.CreateSubdirectory("other").FullName);
        using X509Certificate2 certificate = others.Server(Host);

        Assert.Contains(
            "unable to get local issuer certificate; the certificate of its authority must be in ca-cert.pem",
            RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void A_certificate_of_a_client_is_no_servers()
    {
        using X509Certificate2 certificate = _certificates.Client(Host);

        Assert.Contains("it is not one for a server", RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void A_revoked_certificate_is_refused_and_others_are_not()
    {
        using X509Certificate2 good = _certificates.Server(Host);
        using X509Certificate2 bad = _certificates.Server(Host);
        _certificates.WithRevoked(bad);

        Accept(Options(), good);
        Assert.Contains("certificate revoked; ca-crl.pem lists it", RefuseServer(Options(), bad).Message);
    }

    [Fact]
    public void A_list_of_another_authority_says_nothing_about_a_certificate()
    {
        using TestCertificates others = new(_folder.CreateSubdirectory("other").FullName);
        others.WithRevoked();
        File.Copy(Path.Combine(others.Folder, "ca-crl.pem"), Path.Combine(_folder.FullName, "ca-crl.pem"));
        using X509Certificate2 certificate = _certificates.Server(Host);

        Assert.Contains("ca-crl.pem has no list of its authority", RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void Anybody_is_the_server_when_it_is_not_checked()
    {
        using TestCertificates others = new(_folder.CreateSubdirectory("other").FullName);
        using X509Certificate2 certificate = others.ExpiredServer("other.example");

        Accept(Options() with { VerifyPeer = false }, certificate);
    }

    [Fact]
    public void A_Unix_socket_without_a_name_takes_any_server_of_the_authority()
    {
        using X509Certificate2 right = _certificates.Server("any.example");
        using TestCertificates others = new(_folder.CreateSubdirectory("other").FullName);
        using X509Certificate2 wrong = others.Server("any.example");

        Accept(Options() with { HostName = null }, right);
        Assert.Contains("ca-cert.pem", RefuseServer(Options() with { HostName = null }, wrong).Message);
    }

    [Fact]
    public void Our_certificate_is_shown_to_a_server_that_asks()
    {
        _certificates.WithClient("me");
        using X509Certificate2 certificate = _certificates.Server(Host);
        string? subject = null;
        Accept(Options(), certificate, shown => subject = shown?.Subject);

        Assert.Equal("CN=me", subject);
    }

    [Fact]
    public async Task A_URI_that_requires_TLS_is_also_asked_about_with_TLS_only()
    {
        Action<FakePeer> refuse = peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3) + s_startTls);
            peer.Send(Frame.OptionReply(Frame.StartTls, 0x80000001));
            peer.Expect(Frame.Option(Frame.Abort));
            peer.ExpectEnd();
        };
        using FakeNbdServer server = new(refuse, refuse);
        string uri = server.Endpoint.FormatUri("", encrypted: true) + "&tls-certificates=" + _folder.FullName;
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
        using X509Certificate2 certificate = _certificates.Server(Host);

        NbdException exception = Refuse(Options(), peer =>
        {
            Upgrade(peer, certificate);
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, 0x80000005));
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.OptionReply(Frame.Go, 0x80000005));
            peer.Expect(Frame.Option(Frame.Abort));
            peer.ExpectEnd();
        });

        Assert.Contains("it says that the default export requires TLS, which is in use", exception.Message);
        Assert.Equal(Errno.EPROTO, exception.Errno);
    }

    private static void ConsentAndHear(FakePeer peer)
    {
        peer.Send(Frame.Newstyle());
        peer.Expect(Frame.U32(3) + s_startTls);
        peer.Send(Frame.OptionReply(Frame.StartTls, Frame.Ack));
        // The head of the record with the ClientHello.
        byte[] head = peer.Receive(5);
        Assert.Equal(22, head[0]);
        peer.Receive((head[3] << 8) | head[4]);
    }

    private static void Upgrade(FakePeer peer, X509Certificate2 certificate)
    {
        peer.Send(Frame.Newstyle());
        peer.Expect(Frame.U32(3));
        peer.StartTls(certificate);
    }

    private NbdTlsOptions Options() => new()
    {
        Policy = NbdTlsPolicy.Require,
        CertificateDirectory = _folder.FullName,
        HostName = Host,
    };

    private static void Accept(
        NbdTlsOptions options, X509Certificate2 certificate, Action<X509Certificate?>? client = null)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3));
            peer.StartTls(certificate, client);
            peer.Expect(Frame.Option(Frame.StructuredReply));
            peer.Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
            peer.Expect(Frame.GoFor(""));
            peer.Send(Frame.ExportInfo(512, 1) + Frame.OptionReply(Frame.Go, Frame.Ack));
            peer.Drain();
        });
        using (NbdConnectionPool pool = Connect(server, options))
        {
            Assert.True(pool.IsEncrypted);
        }

        server.Finish();
    }

    private static NbdException RefuseServer(NbdTlsOptions options, X509Certificate2 certificate)
    {
        NbdException exception = Refuse(options, peer =>
        {
            peer.Send(Frame.Newstyle());
            peer.Expect(Frame.U32(3));
            peer.FailTls(certificate);
        });
        Assert.Contains("the TLS handshake failed: the server's certificate is not trusted: ", exception.Message);
        Assert.Equal(Errno.EACCES, exception.Errno);
        return exception;
    }

    private static NbdException Refuse(NbdTlsOptions options, Action<FakePeer> script, TimeSpan? timeout = null)
    {
        using FakeNbdServer server = new(script);
        NbdException exception = Assert.ThrowsAny<NbdException>(
            () => Connect(server, options, "", timeout ?? FakeNbdServer.TimeLimit).Dispose());
        server.Finish();
        return exception;
    }

    private static NbdConnectionPool Connect(
        FakeNbdServer server, NbdTlsOptions options, string exportName = "", TimeSpan? timeout = null) =>
        NbdConnectionPool.Connect(
            server.Endpoint,
            exportName,
            new NbdClientOptions { Connections = 1, Tls = options, ConnectTimeout = timeout ?? FakeNbdServer.TimeLimit },
            CancellationToken.None);
}
