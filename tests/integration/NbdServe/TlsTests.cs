using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace IntegrationTests.NbdServeTests;

/// <summary>Encryption, with libnbd as the client.</summary>
public sealed class TlsTests : IntegrationTest
{
    private string Certificates => Folder.Folder("pki");

    [Fact]
    public void Required_encryption_refuses_plain_clients()
    {
        NbdServer server = Start("require");

        Assert.Contains("TLS", Tool.Run("nbdinfo", Encrypted(server)));
        Assert.NotEqual(0, Tool.Try("nbdinfo", server.Uri).ExitCode);
    }

    [Fact]
    public void Offered_encryption_takes_both()
    {
        NbdServer server = Start("on");
        byte[] data = Data.Random(3_000_000);
        File.WriteAllBytes(Folder.FileAt("image"), data);

        Tool.Run("nbdcopy", Folder.FileAt("image"), Encrypted(server));
        Tool.Run("nbdcopy", server.Uri, Folder.FileAt("plain"));
        Tool.Run("nbdcopy", Encrypted(server), Folder.FileAt("encrypted"));

        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("plain")));
        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("encrypted")));
    }

    [Fact]
    public void Without_encryption_an_encrypted_client_fails() =>
        Assert.NotEqual(0, Tool.Try("nbdinfo", Encrypted(Start("off"))).ExitCode);

    private NbdServer Start(string mode)
    {
        WriteCertificates();
        return NbdServe("memory", "3000000", "--tls", mode, "--tls-certificates", Certificates);
    }

    // libnbd checks the name "localhost" when there is no host in the URI.
    private string Encrypted(NbdServer server) =>
        server.Uri.Replace("nbd+unix", "nbds+unix", StringComparison.Ordinal) + $"&tls-certificates={Certificates}";

    private void WriteCertificates()
    {
        DateTimeOffset from = DateTimeOffset.UtcNow.AddDays(-1);
        DateTimeOffset until = from.AddDays(30);
        using RSA caKey = RSA.Create(2048);
        CertificateRequest ca = new("CN=test CA", caKey, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        ca.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        ca.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
        using X509Certificate2 caCertificate = ca.CreateSelfSigned(from, until);
        using RSA key = RSA.Create(2048);
        CertificateRequest request = new("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        SubjectAlternativeNameBuilder names = new();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        using X509Certificate2 certificate = request.Create(caCertificate, from, until, [1]);
        File.WriteAllText(Path.Combine(Certificates, "ca-cert.pem"), caCertificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(Certificates, "server-cert.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(Certificates, "server-key.pem"), key.ExportPkcs8PrivateKeyPem());
    }
}
