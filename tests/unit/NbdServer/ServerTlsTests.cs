using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using global::Nbd;
using UnitTests.Nbd;

namespace UnitTests.Serving;

/// <summary>STARTTLS and what it changes.</summary>
public sealed class ServerTlsTests : IDisposable
{
    private const int Size = 256 * 1024;
    private const uint StartTls = 5;
    private const uint TlsRequired = 0x80000005;

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("nbd-tls-");

    public ServerTlsTests()
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new("CN=localhost", key, HashAlgorithmName.SHA256);
        using X509Certificate2 certificate = request.CreateSelfSigned(
            DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        File.WriteAllText(Path.Combine(_directory.FullName, "server-cert.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(_directory.FullName, "ca-cert.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(_directory.FullName, "server-key.pem"), key.ExportPkcs8PrivateKeyPem());
    }

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public async Task Data_pass_through_TLS_both_ways()
    {
        TestDisk disk = new(Size) { Before = async _ => await Task.Yield() };
        await using TestServer server = new(disk, With(require: true));
        using SslStream stream = Upgrade(server);
        Send(stream, Frame.GoFor(""));
        _ = Receive(stream, 32 + 34 + 20);
        byte[] data = TransmissionTests.Pattern(1, Size);
        Send(stream, TestServer.Request(1, 1, 0, Size, 0, Frame.Bytes(data)));
        Assert.Equal(Frame.SimpleReply(0, 1), Receive(stream, 16));
        Send(stream, string.Concat(Enumerable.Repeat(TestServer.Request(0, 2, 0, Size), 3)));
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(Frame.SimpleReply(0, 2) + Frame.Bytes(data), Receive(stream, 16 + Size));
        }

        Send(stream, TestServer.Request(2, 3, 0, 0));
        Assert.Equal(0, stream.Read(new byte[1]));
        Assert.Empty(server.Log);
    }

    [Fact]
    public async Task What_was_negotiated_before_TLS_is_forgotten()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk, With(require: false));
        using SslStream stream = Upgrade(server, client =>
        {
            TestServer.Ask(client, 11, "", Frame.Ack);
            client.Send(Frame.Option(10, TestServer.MetaQuery("", "base:allocation")));
            _ = client.Receive(20 + 19 + 20);
        });
        Send(stream, Frame.GoFor(""));
        Assert.Equal(Frame.ExportInfo(Size, 0x0c6d), Receive(stream, 32));
        Assert.Equal((2, 1), (disk.Opened, disk.Disposed));
        _ = Receive(stream, 34 + 20);
        Send(stream, TestServer.Request(7, 1, 0, 1));
        Assert.Equal(Frame.SimpleReply(22, 1), Receive(stream, 16));
    }

    [Fact]
    public async Task Bytes_that_come_before_TLS_end_the_connection()
    {
        await using TestServer server = new(new TestDisk(Size), With(require: true));
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(StartTls) + Frame.Option(Frame.StructuredReply));
        client.Expect(Frame.OptionReply(StartTls, Frame.Ack));
        client.ExpectEnd();
        Assert.Contains(server.Log, line => line.Contains("between NBD_OPT_STARTTLS and TLS", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Without_TLS_a_server_that_requires_it_tells_nothing()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk, With(require: true));
        using (FakePeer client = server.Greet())
        {
            foreach (uint option in (uint[])[Frame.List, 6, Frame.Go, Frame.StructuredReply, 9, 10, 11, 99])
            {
                client.Send(Frame.Option(option, option == Frame.Go ? "ffffffff" : ""));
                client.Expect(Frame.OptionReplyMagic + Frame.U32(option) + Frame.U32(TlsRequired));
                _ = client.Receive(Convert.ToInt32(Convert.ToHexString(client.Receive(4)), 16));
            }

            TestServer.Ask(client, Frame.Abort, "", Frame.Ack);
        }

        using FakePeer byName = server.Greet();
        byName.Send(Frame.Option(Frame.ExportName));
        byName.ExpectEnd();
        Assert.Equal(0, disk.Opened);
    }

    [Theory]
    [InlineData("00")]
    [InlineData("160301ffff")]
    [InlineData("474554202f20485454502f312e310d0a0d0a")]
    public async Task A_TLS_handshake_that_fails_or_never_ends_ends_the_connection(string sent)
    {
        await using TestServer server = new(
            new TestDisk(Size),
            options => With(require: true)(options) with { HandshakeTimeout = TimeSpan.FromMilliseconds(300) });
        using FakePeer client = server.Connect();
        // On a busy machine the time may be over before all of it is said: the connection has to end then, too.
        _ = Record.Exception(() =>
        {
            client.Expect(Frame.Newstyle());
            client.Send(TestServer.HelloFlags);
            TestServer.Ask(client, StartTls, "", Frame.Ack);
            client.Send(sent);
        });
        await TestServer.Until(() => server.Log.Count == 1, "the log");
        client.Drain();
    }

    [Fact]
    public async Task TLS_begins_once()
    {
        await using TestServer server = new(new TestDisk(Size), With(require: true));
        using SslStream stream = Upgrade(server);
        Send(stream, Frame.Option(StartTls));
        Assert.StartsWith(
            Frame.OptionReplyMagic + Frame.U32(StartTls) + Frame.U32(0x80000003), Receive(stream, 20), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_without_a_certificate_is_refused_where_one_is_asked_for()
    {
        await using TestServer server = new(new TestDisk(Size), options => options with
        {
            Tls = new() { CertificateDirectory = _directory.FullName, VerifyPeer = true },
        });
        await Assert.ThrowsAnyAsync<IOException>(() => Task.Run(() =>
        {
            using SslStream stream = Upgrade(server);
            Send(stream, Frame.GoFor(""));
            _ = Receive(stream, 32);
        }, TestContext.Current.CancellationToken));
    }

    [Fact]
    public void Certificates_that_cannot_be_read_are_named()
    {
        NbdServerOptions options = new()
        {
            OpenExport = (_, _) => ValueTask.FromResult<NbdBackend?>(null),
            Tls = new() { CertificateDirectory = "/nowhere" },
        };
        IOException exception = Assert.Throws<IOException>(() => new NbdServer(options));
        Assert.Contains("/nowhere/server-cert.pem", exception.Message, StringComparison.Ordinal);
    }

    private Func<NbdServerOptions, NbdServerOptions> With(bool require) => options => options with
    {
        Tls = new() { CertificateDirectory = _directory.FullName, Require = require },
    };

    private static SslStream Upgrade(TestServer server, Action<FakePeer>? before = null)
    {
        Socket socket = server.ConnectSocket();
        FakePeer client = new(socket);
        client.Expect(Frame.Newstyle());
        client.Send(TestServer.HelloFlags);
        before?.Invoke(client);
        TestServer.Ask(client, StartTls, "", Frame.Ack);
        SslStream stream = new(new NetworkStream(socket, ownsSocket: true), false, (_, certificate, _, _) => certificate?.Subject == "CN=localhost");
        stream.AuthenticateAsClient("localhost");
        return stream;
    }

    private static void Send(SslStream stream, string hex) => stream.Write(Convert.FromHexString(hex));

    private static string Receive(SslStream stream, int count)
    {
        byte[] bytes = new byte[count];
        stream.ReadExactly(bytes);
        return Convert.ToHexStringLower(bytes);
    }
}
