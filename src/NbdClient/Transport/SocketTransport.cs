using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>The plain transport: a blocking stream socket.</summary>
internal unsafe class SocketTransport : ConnectionTransport
{
    private readonly SafeFd _socket;

    /// <param name="socket">A connected blocking socket. Taken over.</param>
    /// <exception cref="LinuxException">The time limit for sends could not be set.</exception>
    internal SocketTransport(SafeFd socket)
    {
        _socket = socket;
        Fd = socket.Fd;

        // A timeval: seconds and microseconds, both of a machine word.
        nint* patience = stackalloc nint[] { 0, SendPatienceMilliseconds * 1000 };
        if (LibC.setsockopt(Fd, LibC.SOL_SOCKET, LibC.SO_SNDTIMEO, patience, 2 * sizeof(nint)) < 0)
        {
            throw LinuxException.FromLastError("set SO_SNDTIMEO");
        }
    }

    /// <summary>The socket. Open as long as this object is not disposed.</summary>
    protected int Fd { get; }

    internal override Errno Send(iovec* parts, int count, bool mayWait, out int sent)
    {
        msghdr message = new() { msg_iov = parts, msg_iovlen = count };
        int flags = LibC.MSG_NOSIGNAL | (mayWait ? 0 : LibC.MSG_DONTWAIT);
        while (true)
        {
            sent = (int)LibC.sendmsg(Fd, &message, flags);
            if (sent >= 0)
            {
                return Errno.None;
            }

            switch (LinuxException.LastErrno)
            {
                case Errno.EINTR:
                    continue;
                case Errno.EAGAIN:
                    sent = 0;
                    return Errno.None;
                case Errno errno:
                    sent = 0;
                    return errno;
            }
        }
    }

    internal override void WaitForRoom()
    {
        pollfd room = new() { fd = Fd, events = LibC.POLLOUT };
        _ = LibC.poll(&room, 1, -1);
    }

    internal override Errno Receive(byte* destination, int length, bool all, out int received)
    {
        while (true)
        {
            received = (int)LibC.recv(Fd, destination, length, all ? LibC.MSG_WAITALL : 0);
            if (received >= 0)
            {
                return Errno.None;
            }

            Errno errno = LinuxException.LastErrno;
            if (errno != Errno.EINTR)
            {
                received = 0;
                return errno;
            }
        }
    }

    internal override Errno TryReceive(byte* destination, int length, out int received)
    {
        received = (int)LibC.recv(Fd, destination, length, LibC.MSG_DONTWAIT);
        if (received >= 0)
        {
            return Errno.None;
        }

        Errno errno = LinuxException.LastErrno;
        received = 0;
        return errno == Errno.EINTR ? Errno.EAGAIN : errno;
    }

    internal override void EndSending() => _ = LibC.shutdown(Fd, LibC.SHUT_WR);

    internal override void Shutdown()
    {
        bool isOpen = false;
        try
        {
            _socket.DangerousAddRef(ref isOpen);
            _ = LibC.shutdown(Fd, LibC.SHUT_RDWR);
        }
        catch (ObjectDisposedException)
        {
            // The connection had ended already.
        }
        finally
        {
            if (isOpen)
            {
                _socket.DangerousRelease();
            }
        }
    }

    public override void Dispose() => _socket.Dispose();
}
