using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// The bytes of one handshake: exact reads and writes on a socket, each within the deadline, and a cap on what a
/// server can make us read in all. Never reads past what was asked for: the transmission phase follows at once.
/// Does not own the socket. Not thread-safe.
/// </summary>
internal sealed unsafe class HandshakeChannel : IDisposable
{
    /// <summary>Most bytes that a whole handshake may bring; endless replies end here.</summary>
    public const long MaximumReceivedBytes = 64 * 1024 * 1024;

    private readonly SafeFd _socket;
    private readonly string _peer;
    private readonly SocketWait _wait;
    private long _receivedBytes;

    public HandshakeChannel(SafeFd socket, string peer, Deadline deadline, CancellationToken cancellationToken)
    {
        _socket = socket;
        _peer = peer;
        _wait = new SocketWait(deadline, cancellationToken);
    }

    /// <summary>What the conversation waits for, for messages: "waiting for the greeting".</summary>
    public string Phase { get; set; } = "";

    /// <summary>Gives up earlier than planned.</summary>
    public void Shorten(TimeSpan time) =>
        _wait.Deadline = Deadline.Earliest(_wait.Deadline, Deadline.After(time));

    /// <summary>Sends all bytes.</summary>
    /// <exception cref="NbdException">As for <see cref="Receive"/>.</exception>
    public void Send(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            WaitFor(LibC.POLLOUT);
            fixed (byte* start = bytes)
            {
                long sent = LibC.send(_socket.Fd, start, bytes.Length, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT);
                if (sent >= 0)
                {
                    bytes = bytes[(int)sent..];
                }
                else if (LinuxException.LastErrno is not (Errno.EINTR or Errno.EAGAIN))
                {
                    throw SocketError(LinuxException.LastErrno);
                }
            }
        }
    }

    /// <summary>Receives until the buffer is full.</summary>
    /// <exception cref="NbdException">
    /// ECONNRESET when the server closed the connection, ETIMEDOUT, or the socket's error.
    /// </exception>
    public void Receive(Span<byte> buffer)
    {
        _receivedBytes += buffer.Length;
        if (_receivedBytes > MaximumReceivedBytes)
        {
            throw new NbdProtocolException(
                $"{_peer}: the server sent more than {MaximumReceivedBytes} bytes before the end of the handshake");
        }

        while (!buffer.IsEmpty)
        {
            WaitFor(LibC.POLLIN);
            fixed (byte* start = buffer)
            {
                long received = LibC.recv(_socket.Fd, start, buffer.Length, LibC.MSG_DONTWAIT);
                if (received > 0)
                {
                    buffer = buffer[(int)received..];
                }
                else if (received == 0)
                {
                    throw SocketError(Errno.ECONNRESET);
                }
                else if (LinuxException.LastErrno is not (Errno.EINTR or Errno.EAGAIN))
                {
                    throw SocketError(LinuxException.LastErrno);
                }
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
    public void Shutdown() => _ = LibC.shutdown(_socket.Fd, LibC.SHUT_RDWR);

    /// <summary>Sends what fits into the socket now. Never waits, never fails.</summary>
    public void SendWithoutWaiting(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            _ = LibC.send(_socket.Fd, start, bytes.Length, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _wait.Dispose();

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
        ? new NbdException($"{_peer}: the server closed the connection while we were {Phase}", Errno.ECONNRESET)
        : new NbdException(
            $"{_peer}: the connection failed while we were {Phase}: {LinuxException.Describe(errno)}", errno);
}
