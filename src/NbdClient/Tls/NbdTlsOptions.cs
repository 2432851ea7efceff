namespace Nbd;

/// <summary>Whether a connection is encrypted (proto.md, "TLS support").</summary>
public enum NbdTlsPolicy
{
    /// <summary>Never: NBD_OPT_STARTTLS is not sent.</summary>
    Disable,

    /// <summary>
    /// If the server agrees. Whoever sits between can say "no" in its place: this protects against nobody who can
    /// change what is sent.
    /// </summary>
    Allow,

    /// <summary>Always: a server that does not agree is refused.</summary>
    Require,
}

/// <summary>How both sides prove who they are (uri.md, "tls-type").</summary>
public enum NbdTlsAuthentication
{
    /// <summary>The server has a certificate; the client may have one too.</summary>
    X509,

    /// <summary>Both sides know a secret key.</summary>
    PreSharedKey,
}

/// <summary>
/// TLS for the connections to a server: TLS 1.2 or later, by the system's OpenSSL 3. Immutable after construction.
/// </summary>
public sealed record NbdTlsOptions
{
    /// <summary>Whether to encrypt. Nothing else here has an effect when it is <see cref="NbdTlsPolicy.Disable"/>.</summary>
    public NbdTlsPolicy Policy { get; init; } = NbdTlsPolicy.Disable;

    /// <summary>
    /// How both sides prove who they are; null: by a pre-shared key if <see cref="PskFile"/> is set, else by
    /// certificates.
    /// </summary>
    public NbdTlsAuthentication? Authentication { get; init; }

    /// <summary>
    /// A folder with <c>ca-cert.pem</c> (the authorities that are trusted) and, where they are needed,
    /// <c>client-cert.pem</c> with <c>client-key.pem</c>, and <c>ca-crl.pem</c> (revoked certificates). Null: the
    /// first folder with a <c>ca-cert.pem</c> out of <c>~/.pki/libnbd</c> and <c>~/.config/pki/libnbd</c>, for root
    /// <c>/etc/pki/libnbd</c>; if there is none, the authorities that the system trusts.
    /// </summary>
    public string? CertificateDirectory { get; init; }

    /// <summary>A file with lines of the form <c>user:key</c>, the key in hexadecimal digits, as psktool writes it.</summary>
    public string? PskFile { get; init; }

    /// <summary>
    /// Which line of <see cref="PskFile"/> to use; null: the one of <c>$LOGNAME</c>, else of the user who runs this
    /// process.
    /// </summary>
    public string? UserName { get; init; }

    /// <summary>
    /// The name or address that the server's certificate must be for; null: the host that is connected to. Where
    /// there is neither, as with a Unix socket, any server certificate of a trusted authority will do, unless it
    /// is the system's authorities that are trusted: then a name is required.
    /// </summary>
    public string? HostName { get; init; }

    /// <summary>
    /// Whether the server's certificate is checked. If not, anybody can pretend to be the server. Default true.
    /// </summary>
    public bool VerifyPeer { get; init; } = true;
}
