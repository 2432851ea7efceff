using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace UnitTests.Nbd;

/// <summary>An authority and what it signs, in the files that NBD programs look for in a folder.</summary>
internal sealed class TestCertificates : IDisposable
{
    private const string ServerUsage = "1.3.6.1.5.5.7.3.1";
    private const string ClientUsage = "1.3.6.1.5.5.7.3.2";

    private static int s_serial;

    private readonly List<X509Certificate2> _issued = [];
    private readonly X509Certificate2 _authority;

    /// <param name="folder">Gets ca-cert.pem.</param>
    internal TestCertificates(string folder)
    {
        Folder = folder;
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN=authority {Interlocked.Increment(ref s_serial)}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(
            new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        _authority = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-10), DateTimeOffset.UtcNow.AddDays(10));
        File.WriteAllText(Path.Combine(folder, "ca-cert.pem"), _authority.ExportCertificatePem());
    }

    internal string Folder { get; }

    /// <summary>A server's certificate for names and addresses, with its key.</summary>
    internal X509Certificate2 Server(params string[] names) => Issue(ServerUsage, -1, 5, names);

    internal X509Certificate2 ExpiredServer(params string[] names) => Issue(ServerUsage, -5, -1, names);

    internal X509Certificate2 Client(string name) => Issue(ClientUsage, -1, 5, [name]);

    /// <summary>Writes server-cert.pem and server-key.pem.</summary>
    internal TestCertificates WithServer(params string[] names)
    {
        Write("server", Server(names));
        return this;
    }

    /// <summary>Writes client-cert.pem and client-key.pem.</summary>
    internal TestCertificates WithClient(string name)
    {
        Write("client", Client(name));
        return this;
    }

    /// <summary>Writes ca-crl.pem.</summary>
    internal TestCertificates WithRevoked(params X509Certificate2[] certificates)
    {
        CertificateRevocationListBuilder list = new();
        foreach (X509Certificate2 certificate in certificates)
        {
            list.AddEntry(certificate);
        }

        byte[] encoded = list.Build(_authority, 1, DateTimeOffset.UtcNow.AddDays(5), HashAlgorithmName.SHA256);
        File.WriteAllText(Path.Combine(Folder, "ca-crl.pem"), PemEncoding.WriteString("X509 CRL", encoded));
        return this;
    }

    public void Dispose()
    {
        _issued.ForEach(certificate => certificate.Dispose());
        _authority.Dispose();
    }

    private void Write(string side, X509Certificate2 certificate)
    {
        using ECDsa key = certificate.GetECDsaPrivateKey()!;
        File.WriteAllText(Path.Combine(Folder, $"{side}-cert.pem"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(Folder, $"{side}-key.pem"), key.ExportPkcs8PrivateKeyPem());
    }

    private X509Certificate2 Issue(string usage, int fromDays, int untilDays, string[] names)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new($"CN={names[0]}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(usage)], false));
        SubjectAlternativeNameBuilder alternatives = new();
        foreach (string name in names)
        {
            if (IPAddress.TryParse(name, out IPAddress? address))
            {
                alternatives.AddIpAddress(address);
            }
            else
            {
                alternatives.AddDnsName(name);
            }
        }

        request.CertificateExtensions.Add(alternatives.Build());
        byte[] serial = BitConverter.GetBytes(IPAddress.HostToNetworkOrder(Interlocked.Increment(ref s_serial)));
        using X509Certificate2 certificate = request.Create(
            _authority, DateTimeOffset.UtcNow.AddDays(fromDays), DateTimeOffset.UtcNow.AddDays(untilDays), serial);
        X509Certificate2 issued = certificate.CopyWithPrivateKey(key);
        _issued.Add(issued);
        return issued;
    }
}
