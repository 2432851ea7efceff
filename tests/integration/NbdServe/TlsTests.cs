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
    public void Only_clients_with_a_certificate_of_the_CA_pass_the_verification()
    {
        NbdServer server = Start("require", "--tls-verify-peer");
        string strangers = Folder.Folder("strangers");
        Write(strangers, Issue(strangers));
        File.Copy(Path.Combine(Certificates, "ca-cert.pem"), Path.Combine(strangers, "ca-cert.pem"), overwrite: true);
        string anonymous = Folder.Folder("anonymous");
        File.Copy(Path.Combine(Certificates, "ca-cert.pem"), Path.Combine(anonymous, "ca-cert.pem"));

        Assert.Contains("TLS", Tool.Run("nbdinfo", Encrypted(server, Certificates)));
        // With TLS 1.3 the client hears of it with its first option only.
        Assert.NotEqual(0, Tool.Try("nbdinfo", Encrypted(server, strangers)).ExitCode);
        Assert.NotEqual(0, Tool.Try("nbdinfo", Encrypted(server, anonymous)).ExitCode);
        Assert.Contains("TLS", Tool.Run("nbdinfo", Encrypted(server, Certificates)));
        Wait.Until(
            () => server.Process.Log.Split("the TLS handshake failed: ").Length == 3, $"both are logged: {server.Process}");
    }

    [Fact]
    public void Without_the_verification_a_client_needs_no_certificate()
    {
        NbdServer server = Start("require");
        string anonymous = Folder.Folder("anonymous");
        File.Copy(Path.Combine(Certificates, "ca-cert.pem"), Path.Combine(anonymous, "ca-cert.pem"));

        Assert.Contains("TLS", Tool.Run("nbdinfo", Encrypted(server, anonymous)));
    }

    [Theory]
    [InlineData("server-cert.pem", null)]
    [InlineData("server-key.pem", null)]
    [InlineData("ca-cert.pem", null)]
    [InlineData("server-cert.pem", "no certificate")]
    [InlineData("server-key.pem", "no key")]
    [InlineData("ca-cert.pem", "no certificate")]
    public void A_file_that_is_missing_or_wrong_is_named(string name, string? content)
    {
        WriteCertificates();
        string path = Path.Combine(Certificates, name);
        File.Delete(path);
        if (content is not null)
        {
            File.WriteAllText(path, content);
        }

        (int exitCode, string output) = RunNbdServe(
            "memory", "1M", "--unix", Folder.FileAt("s"), "--tls-certificates", Certificates, "--tls-verify-peer");

        Assert.Equal(1, exitCode);
        string line = Assert.Single(output.TrimEnd('\n').Split('\n'));
        Assert.StartsWith("nbdserve: read the TLS certificate ", line);
        Assert.Contains(path, line);
    }

    [Fact]
    public void Without_encryption_an_encrypted_client_fails() =>
        Assert.NotEqual(0, Tool.Try("nbdinfo", Encrypted(Start("off"))).ExitCode);

    private NbdServer Start(string mode, params string[] more)
    {
        WriteCertificates();
        return NbdServe(["memory", "3000000", "--tls", mode, "--tls-certificates", Certificates, .. more]);
    }

    // libnbd checks the name "localhost" when there is no host in the URI.
    private string Encrypted(NbdServer server) => Encrypted(server, Certificates);

    private static string Encrypted(NbdServer server, string certificates) =>
        server.Uri.Replace("nbd+unix", "nbds+unix", StringComparison.Ordinal) + $"&tls-certificates={certificates}";

    private void WriteCertificates() => Write(Certificates, Issue(Certificates));

    /// <summary>Makes a CA in the folder, and a certificate that it signed.</summary>
    private static (string Certificate, string Key) Issue(string folder)
    {
        DateTimeOffset from = DateTimeOffset.UtcNow.AddDays(-1);
        DateTimeOffset until = from.AddDays(30);
        using RSA caKey = RSA.Create(2048);
        CertificateRequest ca = new($"CN=test CA of {folder}", caKey, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        ca.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        ca.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
        using X509Certificate2 caCertificate = ca.CreateSelfSigned(from, until);
        using RSA key = RSA.Create(2048);
        CertificateRequest request = new("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        SubjectAlternativeNameBuilder names = new();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        using X509Certificate2 certificate = request.Create(caCertificate, from, until, [1]);
        File.WriteAllText(Path.Combine(folder, "ca-cert.pem"), caCertificate.ExportCertificatePem());
        return (certificate.ExportCertificatePem(), key.ExportPkcs8PrivateKeyPem());
    }

    // The same for both sides.
    private static void Write(string folder, (string Certificate, string Key) issued)
    {
        foreach (string side in (string[])["server", "client"])
        {
            File.WriteAllText(Path.Combine(folder, $"{side}-cert.pem"), issued.Certificate);
            File.WriteAllText(Path.Combine(folder, $"{side}-key.pem"), issued.Key);
        }
    }
}
