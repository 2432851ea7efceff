using System.Text;
using Linux;

namespace Nbd;

/// <summary>
/// What <see cref="NbdTlsOptions"/> name, read and checked: whom to trust, and who we are. Immutable and thread-safe;
/// sessions that were started outlive it.
/// </summary>
internal sealed class TlsCredentials : IDisposable
{
    private readonly TlsContext _context;
    private readonly string? _serverName;
    private readonly string? _pskUser;
    private readonly bool _hasCertificate;

    private TlsCredentials(
        NbdTlsPolicy policy, TlsContext context, string? serverName, string? pskUser, bool hasCertificate)
    {
        Policy = policy;
        _context = context;
        _serverName = serverName;
        _pskUser = pskUser;
        _hasCertificate = hasCertificate;
    }

    internal NbdTlsPolicy Policy { get; }

    /// <returns>Null when TLS is off.</returns>
    /// <exception cref="NbdException">
    /// A file is missing (ENOENT) or cannot be used (EINVAL, EACCES), or the options contradict each other (EINVAL).
    /// </exception>
    internal static TlsCredentials? Read(NbdTlsOptions options, NbdEndpoint endpoint)
    {
        if (options.Policy == NbdTlsPolicy.Disable)
        {
            return null;
        }

        try
        {
            NbdTlsAuthentication authentication = options.Authentication
                ?? (options.PskFile is null ? NbdTlsAuthentication.X509 : NbdTlsAuthentication.PreSharedKey);
            return authentication == NbdTlsAuthentication.PreSharedKey
                ? ReadPreSharedKey(options)
                : ReadCertificates(options, endpoint);
        }
        catch (TlsException e)
        {
            throw new NbdException(e.Message, Errno.EINVAL, e);
        }
    }

    /// <param name="socket">Must stay open as long as the session.</param>
    /// <param name="peer">Begins the messages of exceptions.</param>
    internal TlsSession StartSession(SafeFd socket, string peer)
    {
        try
        {
            return new TlsSession(_context, socket.Fd, _serverName);
        }
        catch (TlsException e)
        {
            throw new NbdException($"{peer}: {PrintableText.From(e.Message)}", Errno.EINVAL, e);
        }
    }

    /// <summary>Why a session failed, and what to do.</summary>
    internal NbdException Explain(TlsSession session, string peer)
    {
        string start = $"{peer}: the TLS handshake failed:";
        if (session.CertificateError != 0)
        {
            string hint = _pskUser is null
                ? TlsCertificateHint.For(session.CertificateError, _serverName)
                : $"it did not accept the pre-shared key of user '{PrintableText.From(_pskUser)}'; has it one?";
            return new NbdException(
                $"{start} the server's certificate is not trusted: {session.CertificateErrorText}; {hint}", Errno.EACCES);
        }

        if (session.SocketError != Errno.None)
        {
            return new NbdException($"{start} {session.Failure}", session.SocketError);
        }

        // RFC 8446, section 6: an alert is what the server says about us.
        return session.Failure.Contains("alert", StringComparison.Ordinal)
            ? new NbdException($"{start} the server says: {session.Failure}; {HintAtOurCredentials()}", Errno.EACCES)
            : new NbdProtocolException($"{start} what the server sent is not TLS, or not a kind that we speak "
                + $"({session.Failure})");
    }

    /// <summary>What a server that ends the connection may have against us.</summary>
    internal string HintAtOurCredentials()
    {
        if (_pskUser is not null)
        {
            return $"has it the user '{PrintableText.From(_pskUser)}' with the same pre-shared key?";
        }

        return _hasCertificate
            ? "does it trust the authority of our client-cert.pem?"
            : "does it want a client certificate (client-cert.pem and client-key.pem), or a pre-shared key?";
    }

    public void Dispose() => _context.Dispose();

    private static TlsCredentials ReadPreSharedKey(NbdTlsOptions options)
    {
        string file = options.PskFile
            ?? throw new NbdException("TLS with a pre-shared key needs the file of the keys (tls-psk-file)", Errno.EINVAL);
        string user = options.UserName ?? Environment.GetEnvironmentVariable("LOGNAME") ?? Environment.UserName;
        byte[] identity = Encoding.UTF8.GetBytes(user);
        if (identity.Length is 0 or > TlsContext.MaximumIdentityBytes || identity.Contains((byte)0))
        {
            throw new NbdException(
                $"the user name of a pre-shared key must have 1 to {TlsContext.MaximumIdentityBytes} bytes", Errno.EINVAL);
        }

        byte[] key = TlsKeyFile.Find(file, user);
        TlsContext context = TlsContext.ForPreSharedKey(identity, key);
        Array.Clear(key);
        return new TlsCredentials(options.Policy, context, null, user, false);
    }

    private static TlsCredentials ReadCertificates(NbdTlsOptions options, NbdEndpoint endpoint)
    {
        TlsCertificateFiles files = TlsCertificateFiles.Find(options.CertificateDirectory, options.VerifyPeer);
        string? host = options.HostName ?? (endpoint as NbdEndpoint.Tcp)?.Host;
        if (!options.VerifyPeer)
        {
            return new TlsCredentials(
                options.Policy, TlsContext.WithoutVerification(files.Own), host, null, files.Own is not null);
        }

        if (host is null && files.Authorities is null)
        {
            throw new NbdException(
                $"TLS with {endpoint}: the server has no host name, and the authorities that this system trusts vouch "
                + "for every server of the world: name the one that its certificate is for (tls-hostname), or the folder "
                + "with the certificate of its authority (tls-certificates)",
                Errno.EINVAL);
        }

        TlsContext context = TlsContext.ForCertificates(files.Authorities, files.Revoked, files.Own);
        return new TlsCredentials(options.Policy, context, host, null, files.Own is not null);
    }
}
