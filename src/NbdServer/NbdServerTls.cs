namespace Nbd;

/// <summary>TLS with X.509 certificates, in the folder layout of nbdkit and libnbd.</summary>
public sealed record NbdServerTls
{
    /// <summary>
    /// A folder with <c>server-cert.pem</c> and <c>server-key.pem</c>, and <c>ca-cert.pem</c> if
    /// <see cref="VerifyPeer"/> is set.
    /// </summary>
    public required string CertificateDirectory { get; init; }

    /// <summary>Refuses clients that do not use TLS. Default true.</summary>
    public bool Require { get; init; } = true;

    /// <summary>Refuses clients without a certificate that the CA signed. Default false.</summary>
    public bool VerifyPeer { get; init; }
}
