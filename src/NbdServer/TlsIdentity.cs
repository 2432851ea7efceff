using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Nbd;

/// <summary>The server's certificate and what it asks of clients; read once, used by every connection.</summary>
internal sealed class TlsIdentity : IDisposable
{
    private readonly X509Certificate2 _certificate;

    /// <exception cref="IOException">A file cannot be read or makes no sense; the message names it.</exception>
    public TlsIdentity(NbdServerTls tls)
    {
        string certificate = Path.Combine(tls.CertificateDirectory, "server-cert.pem");
        string key = Path.Combine(tls.CertificateDirectory, "server-key.pem");
        string authority = Path.Combine(tls.CertificateDirectory, "ca-cert.pem");
        _certificate = Read($"{certificate} and {key}", () => X509Certificate2.CreateFromPemFile(certificate, key));
        X509Certificate2Collection intermediates = [];
        Read(certificate, () => Import(intermediates, certificate));
        Options = new()
        {
            ServerCertificateContext = SslStreamCertificateContext.Create(_certificate, intermediates, offline: true),
            EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
            ClientCertificateRequired = tls.VerifyPeer,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
        };
        if (tls.VerifyPeer)
        {
            X509ChainPolicy policy = new()
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            Read(authority, () => Import(policy.CustomTrustStore, authority));
            Options.CertificateChainPolicy = policy;
        }
    }

    public SslServerAuthenticationOptions Options { get; }

    public void Dispose() => _certificate.Dispose();

    private static bool Import(X509Certificate2Collection collection, string path)
    {
        collection.ImportFromPemFile(path);
        return collection.Count > 0 ? true : throw new IOException("there is no certificate in it");
    }

    private static T Read<T>(string files, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception exception) when (exception is CryptographicException or UnauthorizedAccessException or IOException)
        {
            throw new IOException($"read the TLS certificate {files}: {exception.Message}", exception);
        }
    }
}
