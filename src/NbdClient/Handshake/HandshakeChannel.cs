using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// The bytes of one handshake: exact reads and writes on a socket, each within the deadline, and a cap on what a
/// server can make us read in one step. Never reads past what was asked for: the transmission phase, or TLS, follows at
/// once. Does not own the socket. Not thread-safe.
/// </summary>
internal sealed unsafe class HandshakeChannel : IDisposable
{
    /// <summary>Most bytes that a step may bring, or a handshake that has no steps; endless replies end here.</summary>
    public const long MaximumReceivedBytes = 64 * 1024 * 1024;

    private readonly SafeFd _socket;
    private readonly string _peer;
    private SocketWait _wait;
    private long _receivedBytes;
    private TlsCredentials? _credentials;
    private TlsSession? _tls;
    private bool _hasReceivedOverTls;

    public HandshakeChannel(SafeFd socket, string peer, Deadline deadline, CancellationToken cancellationToken)
    {
        _socket = socket;
        _peer = peer;
        _wait = new SocketWait(deadline, cancellationToken);
    }

    /// <summary>What the conversation waits for, for messages: "waiting for the greeting".</summary>
    public string Phase { get; set; } = "";

    /// <summary>Sets new limits, of time and of bytes, for what follows.</summary>
    public void BeginStep(Deadline deadline, CancellationToken cancellationToken)
    {
        _wait.Dispose();
        _wait = new SocketWait(deadline, cancellationToken);
        _receivedBytes = 0;
    }

    /// <summary>Gives up earlier than planned.</summary>
    public void Shorten(TimeSpan time) =>
        _wait.Deadline = Deadline.Earliest(_wait.Deadline, Deadline.After(time));

    /// <summary>Does the TLS handshake. From then on everything goes through TLS.</summary>
    /// <exception cref="NbdException">As for <see cref="Receive"/>; EACCES for a server that is not trusted.</exception>
    public void StartTls(TlsCredentials credentials)
    {
        Phase = "in the TLS handshake";
        _credentials = credentials;
        RefuseInjectedBytes();
        TlsSession session = credentials.StartSession(_socket, _peer);
        try
        {
            while (true)
            {
                switch (session.Handshake())
                {
                    case TlsOutcome.Done:
                        _tls = session;
                        return;
                    case TlsOutcome.NeedsInput:
                        Count(Feed(session));
                        break;
                    case TlsOutcome.NeedsRoom:
                        WaitFor(LibC.POLLOUT);
                        break;
                    default:
                        throw credentials.Explain(session, _peer);
                }
            }
        }
        catch
        {
            session.Dispose();
            throw;
        }
    }

    /// <summary>Hands TLS over to the caller, who disposes it; null when there is none.</summary>
    public TlsSession? TakeTls()
    {
        TlsSession? session = _tls;
        _tls = null;
        return session;
    }

    /// <summary>Sends all bytes.</summary>
    /// <exception cref="NbdException">As for <see cref="Receive"/>.</exception>
    public void Send(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            fixed (byte* start = bytes)
            {
                int sent = _tls is null ? SendPlain(start, bytes.Length) : SendEncrypted(_tls, start, bytes.Length);
                bytes = bytes[sent..];
            }
        }
    }

    /// <summary>Receives until the buffer is full.</summary>
    /// <exception cref="NbdException">
    /// ECONNRESET when the server closed the connection, ETIMEDOUT, or the socket's error.
    /// </exception>
    public void Receive(Span<byte> buffer)
    {
        Count(buffer.Length);
        while (!buffer.IsEmpty)
        {
            fixed (byte* start = buffer)
            {
                int received = _tls is null
                    ? ReceivePlain(start, buffer.Length)
                    : ReceiveEncrypted(_tls, start, buffer.Length);
                buffer = buffer[received..];
            }
        }
    }

    /// <summary>Receives bytes that nobody needs.</summary>
    /// <exception cref="NbdException">As for <see cref="Receive"/>.</exception>
    public void Skip(uint count)
    {
        Span<byte> sink = stackalloc byte[4096];
        while (count > 0)
        {
            int part = (int)Math.Min(count, (uint)sink.Length);
            Receive(sink[..part]);
            count -= (uint)part;
        }
    }

    /// <summary>Tells the server that nothing more comes, and ends its sending too. Never fails.</summary>
    public void Shutdown()
    {
        _tls?.SendEnd();
        _ = LibC.shutdown(_socket.Fd, LibC.SHUT_RDWR);
    }

    /// <summary>Sends what fits into the socket now. Never waits, never fails.</summary>
    public void SendWithoutWaiting(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            if (_tls is not null)
            {
                _ = _tls.Write(start, bytes.Length, out _);
            }
            else
            {
                _ = LibC.send(_socket.Fd, start, bytes.Length, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _tls?.Dispose();
        _wait.Dispose();
    }

    private int SendPlain(byte* source, int length)
    {
        WaitFor(LibC.POLLOUT);
        int sent = (int)LibC.send(_socket.Fd, source, length, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT);
        if (sent >= 0)
        {
            return sent;
        }

        return LinuxException.LastErrno is Errno.EINTR or Errno.EAGAIN ? 0 : throw SocketError(LinuxException.LastErrno);
    }

    private int SendEncrypted(TlsSession tls, byte* source, int length)
    {
        while (true)
        {
            switch (tls.Write(source, length, out int sent))
            {
                case TlsOutcome.Done:
                    return sent;
                case TlsOutcome.NeedsRoom:
                    WaitFor(LibC.POLLOUT);
                    break;
                default:
                    throw tls.SocketError == Errno.None ? _credentials!.Explain(tls, _peer) : SocketError(tls.SocketError);
            }
        }
    }

    private int ReceivePlain(byte* destination, int length)
    {
        WaitFor(LibC.POLLIN);
        int received = (int)LibC.recv(_socket.Fd, destination, length, LibC.MSG_DONTWAIT);
        if (received > 0)
        {
            return received;
        }

        Errno errno = received == 0 ? Errno.ECONNRESET : LinuxException.LastErrno;
        return errno is Errno.EINTR or Errno.EAGAIN ? 0 : throw SocketError(errno);
    }

    private int ReceiveEncrypted(TlsSession tls, byte* destination, int length)
    {
        while (true)
        {
            switch (tls.Read(destination, length, out int received))
            {
                case TlsOutcome.Done:
                    _hasReceivedOverTls = true;
                    return received;
                case TlsOutcome.NeedsInput:
                    Feed(tls);
                    break;
                case TlsOutcome.Ended:
                    throw SocketError(Errno.ECONNRESET);
                default:
                    throw _credentials!.Explain(tls, _peer);
            }
        }
    }

    /// <returns>Bytes; 0 when there were none after all.</returns>
    private int Feed(TlsSession tls)
    {
        WaitFor(LibC.POLLIN);
        return tls.Feed(mayWait: false, out int count) switch
        {
            Errno.None when count > 0 => count,
            Errno.None => throw SocketError(Errno.ECONNRESET),
            Errno.EAGAIN => 0,
            Errno errno => throw SocketError(errno),
        };
    }

    /// <summary>
    /// Nothing may lie between the answer to STARTTLS and TLS (proto.md, "NBD_OPT_STARTTLS"): a server sends nothing
    /// before it has heard our first message. Bytes that come later are no TLS, and fail as that.
    /// </summary>
    private void RefuseInjectedBytes()
    {
        byte injected;
        if (LibC.recv(_socket.Fd, &injected, 1, LibC.MSG_PEEK | LibC.MSG_DONTWAIT) > 0)
        {
            throw new NbdProtocolException(
                $"{_peer}: bytes that are not encrypted follow the server's consent to TLS; someone between may have "
                + "put them there, so the connection is not used");
        }
    }

    private void Count(int bytes)
    {
        _receivedBytes += bytes;
        if (_receivedBytes > MaximumReceivedBytes)
        {
            throw new NbdProtocolException(
                $"{_peer}: the server sent more than {MaximumReceivedBytes} bytes before the end of the handshake");
        }
    }

    private void WaitFor(short events)
    {
        if (!_wait.Until(_socket.Fd, events))
        {
            throw new NbdException(
                $"{_peer}: the server did not answer within the time limit while we were {Phase}",
                Errno.ETIMEDOUT);
        }
    }

    private NbdException SocketError(Errno errno) => errno is Errno.ECONNRESET or Errno.EPIPE
        ? new NbdException(
            $"{_peer}: the server closed the connection while we were {Phase}{HintAtCredentials()}", Errno.ECONNRESET)
        : new NbdException(
            $"{_peer}: the connection failed while we were {Phase}: {LinuxException.Describe(errno)}", errno);

    /// <summary>
    /// A server that does not want us may only leave, in TLS 1.3 also after what is the end of the TLS handshake for us.
    /// </summary>
    private string HintAtCredentials() =>
        _credentials is null || _hasReceivedOverTls ? "" : $"; {_credentials.HintAtOurCredentials()}";
}
