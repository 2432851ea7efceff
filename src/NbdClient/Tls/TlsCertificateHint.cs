namespace Nbd;

/// <summary>What to do about a certificate that is not trusted.</summary>
internal static class TlsCertificateHint
{
    // x509_vfy.h of OpenSSL.
    private const int UnableToGetIssuer = 2;
    private const int UnableToGetRevocationList = 3;
    private const int NotYetValid = 9;
    private const int Expired = 10;
    private const int RevocationListExpired = 12;
    private const int SelfSigned = 18;
    private const int SelfSignedInChain = 19;
    private const int UnableToGetIssuerLocally = 20;
    private const int UnableToVerifyFirst = 21;
    private const int Revoked = 23;
    private const int InvalidPurpose = 26;
    private const int HostMismatch = 62;
    private const int AddressMismatch = 64;

    /// <param name="error">The error, as X509_STORE_CTX_get_error(3) has it.</param>
    /// <param name="serverName">The name that the certificate had to be for, or null.</param>
    internal static string For(int error, string? serverName) => error switch
    {
        HostMismatch or AddressMismatch =>
            $"it is for another server than '{PrintableText.From(serverName ?? "")}': connect by the name that it is for, "
            + "or say that name (tls-hostname)",
        Expired => "it must be renewed on the server (or the clock of this machine is wrong)",
        NotYetValid => "is the clock of this machine right?",
        SelfSigned or SelfSignedInChain or UnableToGetIssuer or UnableToGetIssuerLocally or UnableToVerifyFirst =>
            "the certificate of its authority must be in ca-cert.pem (tls-certificates)",
        Revoked => "ca-crl.pem lists it: the server must get a new one",
        UnableToGetRevocationList => "ca-crl.pem has no list of its authority",
        RevocationListExpired => "ca-crl.pem must be renewed",
        InvalidPurpose => "it is not one for a server",
        _ => "the server needs another one",
    };
}
