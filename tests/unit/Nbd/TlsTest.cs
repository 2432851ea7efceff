using System.Security.Cryptography.X509Certificates;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Certificates, and a scripted server that uses them.</summary>
public abstract class TlsTest : IDisposable
{
    private protected const string Host = "server.example";

    private protected static readonly string StartTls = Frame.Option(Frame.StartTls);

    private protected DirectoryInfo Folder { get; } = Directory.CreateTempSubdirectory("nbd-tls-");

    protected TlsTest()
    {
        Certificates = new TestCertificates(Folder.FullName);
    }

    private protected TestCertificates Certificates { get; }

    public void Dispose()
    {
        GC.SuppressFinalize(this);
        Certificates.Dispose();
        Folder.Delete(recursive: true);
    }

    private protected static void ConsentAndHear(FakePeer peer)
    {
        peer.Send(Frame.Newstyle());
        peer.Expect(Frame.U32(3) + StartTls);
        peer.Send(Frame.OptionReply(Frame.StartTls, Frame.Ack));
        // The head of the record with the ClientHello.
        byte[] head = peer.Receive(5);
        Assert.Equal(22, head[0]);
        peer.Receive((head[3] << 8) | head[4]);
    }

    private protected static void Upgrade(FakePeer peer, X509Certificate2 certificate)
    {
        peer.Greet();
        peer.StartTls(certificate);
    }

    private protected NbdTlsOptions Options() => new()
    {
        Policy = NbdTlsPolicy.Require,
        CertificateDirectory = Folder.FullName,
        HostName = Host,
    };

    private protected static void Accept(
        NbdTlsOptions options, X509Certificate2 certificate, Action<X509Certificate?>? client = null)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Greet();
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

    private protected static NbdException RefuseServer(NbdTlsOptions options, X509Certificate2 certificate)
    {
        NbdException exception = Refuse(options, peer =>
        {
            peer.Greet();
            peer.FailTls(certificate);
        });
        Assert.Contains("the TLS handshake failed: the server's certificate is not trusted: ", exception.Message);
        Assert.Equal(Errno.EACCES, exception.Errno);
        return exception;
    }

    private protected static NbdException Refuse(NbdTlsOptions options, Action<FakePeer> script, TimeSpan? timeout = null)
    {
        using FakeNbdServer server = new(script);
        NbdException exception = Assert.ThrowsAny<NbdException>(
            () => Connect(server, options, "", timeout ?? FakeNbdServer.TimeLimit).Dispose());
        server.Finish();
        return exception;
    }

    private protected static NbdConnectionPool Connect(
        FakeNbdServer server, NbdTlsOptions options, string exportName = "", TimeSpan? timeout = null) =>
        NbdConnectionPool.Connect(
            server.Endpoint,
            exportName,
            new NbdClientOptions { Connections = 1, Tls = options, ConnectTimeout = timeout ?? FakeNbdServer.TimeLimit },
            CancellationToken.None);
}
