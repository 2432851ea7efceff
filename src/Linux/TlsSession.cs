using System.Net;
using System.Runtime.InteropServices;
using Tmds.Linux;

namespace Linux;

/// <summary>How far a call of <see cref="TlsSession"/> came.</summary>
public enum TlsOutcome
{
    /// <summary>It did what it was asked.</summary>
    Done,

    /// <summary>Nothing happened: bytes are missing, <see cref="TlsSession.Feed"/> gets them.</summary>
    NeedsInput,

    /// <summary>Nothing happened: the socket takes no more now. To be repeated with the same bytes.</summary>
    NeedsRoom,

    /// <summary>The server said that it sends no more (close_notify).</summary>
    Ended,

    /// <summary>The session is broken; <see cref="TlsSession.Failure"/> tells why.</summary>
    Failed,
}

/// <summary>
/// The client's side of TLS on a socket, without a wait of its own but in <see cref="Feed"/>. One thread may receive
/// (<see cref="Feed"/>, <see cref="Read"/>) while another sends (<see cref="Write"/>, <see cref="SendEnd"/>).
/// </summary>
/// <remarks>
/// OpenSSL's object serves one thread at a time, so each call takes a lock; it is held while one record (16 KiB) is
/// encrypted or decrypted and, when sending, handed to the socket without waiting. Input is received outside of the
/// lock, many records at once.
/// </remarks>
public sealed unsafe class TlsSession : IDisposable
{
    /// <summary>Largest part of a stream that is encrypted in one piece, in bytes (RFC 8446, section 5.1).</summary>
    public const int RecordBytes = 16 * 1024;

    private const int InputBytes = 128 * 1024;

    private static nint s_method;

    // Guards the session's objects in OpenSSL, and _failure. Nothing under it waits.
    private readonly Lock _gate = new();
    private readonly TlsContext _context;
    private readonly NativeBuffer _input = new(InputBytes);
    private readonly Wire* _wire = (Wire*)NativeMemory.AllocZeroed((nuint)sizeof(Wire));
    private nint _ssl;
    private string? _failure;

    /// <summary>Prepares a session.</summary>
    /// <param name="context">Whom to trust, and who we are.</param>
    /// <param name="socket">A connected stream socket, which must stay open as long as this object.</param>
    /// <param name="serverName">
    /// The host name or IP address that the server's certificate must be for; null: any that is trusted will do.
    /// </param>
    /// <exception cref="TlsException">The name cannot be used.</exception>
    public TlsSession(TlsContext context, int socket, string? serverName)
    {
        bool isUsed = false;
        context.DangerousAddRef(ref isUsed);
        _context = context;
        _wire->Socket = socket;
        _wire->Input = _input.Start;
        _ssl = OpenSsl.SSL_new(context.DangerousGetHandle());
        nint bio = OpenSsl.BIO_new(Method());
        OpenSsl.BIO_set_data(bio, _wire);
        OpenSsl.SSL_set_bio(_ssl, bio, bio);
        _ = OpenSsl.SSL_set_ex_data(_ssl, 0, context.KeyData);
        if (serverName is not null && !TryName(serverName))
        {
            Dispose();
            throw new TlsException($"a server cannot have the name '{serverName}'");
        }
    }

    /// <summary>Why the session is broken, in the words of OpenSSL.</summary>
    public string Failure => _failure ?? "no error";

    /// <summary>Why the socket took no bytes, if that is what broke the session; else None.</summary>
    public Errno SocketError { get; private set; }

    /// <summary>
    /// What is wrong with the server's certificate: a number of X509_STORE_CTX_get_error(3), 0 when nothing is.
    /// </summary>
    public int CertificateError { get; private set; }

    /// <summary>The text for <see cref="CertificateError"/>.</summary>
    public string CertificateErrorText => Text(OpenSsl.X509_verify_cert_error_string(CertificateError));

    /// <summary>Version of the protocol, such as "TLSv1.3".</summary>
    public string Protocol => Text(OpenSsl.SSL_get_version(_ssl));

    /// <summary>Goes on with the handshake.</summary>
    public TlsOutcome Handshake()
    {
        lock (_gate)
        {
            OpenSsl.ERR_clear_error();
            _wire->MayRead = true;
            int result = OpenSsl.SSL_connect(_ssl);
            TlsOutcome outcome = result == 1 ? TlsOutcome.Done : Explain(result);
            _wire->MayRead = false;
            return outcome;
        }
    }

    /// <summary>Decrypts what came.</summary>
    /// <param name="destination">Where to.</param>
    /// <param name="length">Most bytes, at least 1.</param>
    /// <param name="count">Bytes; at most those of one record.</param>
    public TlsOutcome Read(byte* destination, int length, out int count)
    {
        lock (_gate)
        {
            OpenSsl.ERR_clear_error();
            _wire->MayRead = true;
            count = OpenSsl.SSL_read(_ssl, destination, length);
            TlsOutcome outcome = count > 0 ? TlsOutcome.Done : Explain(count);
            _wire->MayRead = false;
            return outcome;
        }
    }

    /// <summary>
    /// Encrypts and sends. After <see cref="TlsOutcome.NeedsRoom"/> the same bytes, or more that start with them,
    /// must come next.
    /// </summary>
    /// <param name="source">First byte.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="count">Bytes that are sent; at most <see cref="RecordBytes"/>.</param>
    public TlsOutcome Write(byte* source, int length, out int count)
    {
        lock (_gate)
        {
            OpenSsl.ERR_clear_error();
            count = OpenSsl.SSL_write(_ssl, source, length);
            if (count > 0)
            {
                return TlsOutcome.Done;
            }

            TlsOutcome outcome = Explain(count);
            count = 0;
            if (outcome != TlsOutcome.NeedsInput)
            {
                return outcome;
            }

            _failure = "the server wants a new TLS handshake";
            return TlsOutcome.Failed;
        }
    }

    /// <summary>Receives bytes to decrypt, after <see cref="TlsOutcome.NeedsInput"/>.</summary>
    /// <param name="mayWait">Whether to wait for them.</param>
    /// <param name="count">Bytes; 0 when the server closed the connection, or an error is returned.</param>
    /// <returns>None, EAGAIN, or why the connection is broken.</returns>
    public Errno Feed(bool mayWait, out int count)
    {
        while (true)
        {
            count = (int)LibC.recv(_wire->Socket, _wire->Input, InputBytes, mayWait ? 0 : LibC.MSG_DONTWAIT);
            if (count >= 0)
            {
                (_wire->Start, _wire->End) = (0, count);
                return Errno.None;
            }

            count = 0;
            Errno errno = LinuxException.LastErrno;
            if (errno != Errno.EINTR)
            {
                return errno;
            }
        }
    }

    /// <summary>Says that nothing more comes (close_notify), if the socket has room for it.</summary>
    public void SendEnd()
    {
        lock (_gate)
        {
            OpenSsl.ERR_clear_error();
            _ = OpenSsl.SSL_shutdown(_ssl);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_ssl == 0)
        {
            return;
        }

        OpenSsl.SSL_free(_ssl);
        _ssl = 0;
        NativeMemory.Free(_wire);
        _input.Dispose();
        _context.DangerousRelease();
    }

    private bool TryName(string name)
    {
        nint parameters = OpenSsl.SSL_get0_param(_ssl);
        if (IPAddress.TryParse(name, out IPAddress? address))
        {
            // A certificate knows nothing of zones (fe80::1%eth0). RFC 6066, section 3: no addresses in server_name.
            fixed (byte* literal = NativeStrings.Terminated(address.ToString().Split('%')[0]))
            {
                return OpenSsl.X509_VERIFY_PARAM_set1_ip_asc(parameters, literal) == 1;
            }
        }

        OpenSsl.X509_VERIFY_PARAM_set_hostflags(parameters, OpenSsl.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        fixed (byte* host = NativeStrings.Terminated(name.TrimEnd('.')))
        {
            return OpenSsl.X509_VERIFY_PARAM_set1_host(parameters, host, 0) == 1
                && OpenSsl.SSL_ctrl(_ssl, OpenSsl.SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, host) == 1;
        }
    }

    /// <summary>What a call that did not succeed needs.</summary>
    private TlsOutcome Explain(int result)
    {
        switch (OpenSsl.SSL_get_error(_ssl, result))
        {
            case OpenSsl.SSL_ERROR_WANT_READ:
                return TlsOutcome.NeedsInput;
            case OpenSsl.SSL_ERROR_WANT_WRITE:
                return TlsOutcome.NeedsRoom;
            case OpenSsl.SSL_ERROR_ZERO_RETURN:
                return TlsOutcome.Ended;
            case OpenSsl.SSL_ERROR_SYSCALL:
                SocketError = _wire->Errno;
                _failure ??= LinuxException.Describe(_wire->Errno);
                return TlsOutcome.Failed;
            default:
                _failure ??= OpenSsl.LastReason();
                CertificateError = (int)OpenSsl.SSL_get_verify_result(_ssl);
                return TlsOutcome.Failed;
        }
    }

    private static string Text(byte* text) => Marshal.PtrToStringUTF8((nint)text) ?? "";

    /// <summary>The kind of BIO that all sessions use. OpenSSL has no end for such a kind.</summary>
    private static nint Method()
    {
        if (s_method == 0)
        {
            fixed (byte* name = "socket"u8)
            {
                nint method = OpenSsl.BIO_meth_new(
                    OpenSsl.BIO_get_new_index() | OpenSsl.BIO_TYPE_SOURCE_SINK, name);
                _ = OpenSsl.BIO_meth_set_read(method, &TakeInput);
                _ = OpenSsl.BIO_meth_set_write(method, &SendOutput);
                _ = OpenSsl.BIO_meth_set_ctrl(method, &Control);
                _ = Interlocked.CompareExchange(ref s_method, method, 0);
            }
        }

        return s_method;
    }

    [UnmanagedCallersOnly]
    private static int TakeInput(nint bio, byte* destination, int length)
    {
        Wire* wire = (Wire*)OpenSsl.BIO_get_data(bio);
        OpenSsl.BIO_clear_flags(bio, OpenSsl.BIO_FLAGS_ALL);
        if (!wire->MayRead || wire->Start == wire->End)
        {
            OpenSsl.BIO_set_flags(bio, OpenSsl.BIO_FLAGS_READ | OpenSsl.BIO_FLAGS_SHOULD_RETRY);
            return -1;
        }

        int count = Math.Min(length, wire->End - wire->Start);
        Buffer.MemoryCopy(wire->Input + wire->Start, destination, length, count);
        wire->Start += count;
        return count;
    }

    [UnmanagedCallersOnly]
    private static int SendOutput(nint bio, byte* source, int length)
    {
        Wire* wire = (Wire*)OpenSsl.BIO_get_data(bio);
        OpenSsl.BIO_clear_flags(bio, OpenSsl.BIO_FLAGS_ALL);
        while (true)
        {
            int count = (int)LibC.send(wire->Socket, source, length, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT);
            if (count >= 0)
            {
                return count;
            }

            wire->Errno = LinuxException.LastErrno;
            switch (wire->Errno)
            {
                case Errno.EINTR:
                    continue;
                case Errno.EAGAIN:
                    OpenSsl.BIO_set_flags(bio, OpenSsl.BIO_FLAGS_WRITE | OpenSsl.BIO_FLAGS_SHOULD_RETRY);
                    return -1;
                default:
                    return -1;
            }
        }
    }

    [UnmanagedCallersOnly]
    private static nint Control(nint bio, int command, nint number, void* argument) =>
        command == OpenSsl.BIO_CTRL_FLUSH ? 1 : 0;

    /// <summary>What OpenSSL's calls back have to know. Outside the managed heap: it must not move.</summary>
    private struct Wire
    {
        /// <summary>Received and not yet decrypted bytes: from Start to End. The receiving thread's.</summary>
        internal byte* Input;

        internal int Start;
        internal int End;
        internal int Socket;

        /// <summary>Whether the receiving thread is in OpenSSL: nobody else may take input.</summary>
        internal bool MayRead;

        /// <summary>Why the socket refused bytes.</summary>
        internal Errno Errno;
    }
}
