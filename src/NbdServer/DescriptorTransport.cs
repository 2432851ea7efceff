using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>A connected socket, or a pair of descriptors such as standard input and output.</summary>
internal sealed unsafe class DescriptorTransport : ServerTransport
{
    // Room for many replies: a reader that is not as fast costs no thread switch for each.
    private const int SendBufferBytes = 2 * 1024 * 1024;

    private readonly SafeFd _input;
    private readonly SafeFd _output;
    private readonly bool _inputIsSocket;
    private readonly bool _outputIsSocket;
    // Readable once receiving was stopped: a pipe cannot be shut down.
    private readonly SafeFd? _stopped;
    private readonly BusyPolling _polling = new();

    /// <summary>Owns the descriptors from now on.</summary>
    /// <param name="input">Where requests come from.</param>
    /// <param name="output">Where replies go to; may be the same.</param>
    /// <param name="receiveTimeout">How often a socket that is waited for looks at the deadline of a request.</param>
    public DescriptorTransport(SafeFd input, SafeFd output, TimeSpan receiveTimeout)
    {
        _input = input;
        _output = output;
        _inputIsSocket = IsSocket(input, out _);
        _outputIsSocket = IsSocket(output, out int family);
        if (!_inputIsSocket)
        {
            int fd = LibC.eventfd(0, LibC.EFD_CLOEXEC | LibC.EFD_NONBLOCK);
            _stopped = fd < 0 ? throw LinuxException.FromLastError("eventfd") : new SafeFd(fd);
        }
        else
        {
            // A poll before each call would cost more.
            // A timeval: seconds and microseconds, both of a machine word.
            long microseconds = receiveTimeout.Ticks / TimeSpan.TicksPerMicrosecond;
            nint* timeout = stackalloc nint[] { (nint)(microseconds / 1_000_000), (nint)(microseconds % 1_000_000) };
            _ = LibC.setsockopt(input.Fd, LibC.SOL_SOCKET, LibC.SO_RCVTIMEO, timeout, 2 * sizeof(nint));
        }

        if (_outputIsSocket)
        {
            Tune(family);
        }
    }

    /// <inheritdoc/>
    public override bool CanSendWithoutBlocking => _outputIsSocket;

    /// <inheritdoc/>
    public override int Receive(byte* destination, int wanted, bool all)
    {
        while (true)
        {
            bool isTimed = Deadline != Deadline.Never;
            if ((isTimed || !_inputIsSocket) && !WaitForInput())
            {
                return 0;
            }

            int received = _inputIsSocket
                ? ReceiveFromSocket(destination, wanted, all && !isTimed)
                : (int)LibC.read(_input.Fd, destination, wanted);
            Errno errno = received < 0 ? LinuxException.LastErrno : Errno.None;
            if (RequestDeadline.HasPassed)
            {
                return 0;
            }

            if (received >= 0)
            {
                return received;
            }

            if (errno is not (Errno.EINTR or Errno.EAGAIN))
            {
                return 0;
            }
        }
    }

    /// <inheritdoc/>
    public override long Send(iovec* vectors, int count, bool mayBlock)
    {
        bool isTimed = Deadline != Deadline.Never;
        msghdr message = new() { msg_iov = vectors, msg_iovlen = count };
        int flags = LibC.MSG_NOSIGNAL | (mayBlock && !isTimed ? 0 : LibC.MSG_DONTWAIT);
        while (true)
        {
            long sent = _outputIsSocket
                ? (long)LibC.sendmsg(_output.Fd, &message, flags)
                : (long)LibC.write(_output.Fd, vectors->iov_base, vectors->iov_len);
            if (sent >= 0)
            {
                return sent;
            }

            switch (LinuxException.LastErrno)
            {
                case Errno.EINTR:
                    break;
                case Errno.EAGAIN when !mayBlock:
                    return 0;
                case Errno.EAGAIN:
                    Wait(_output.Fd, LibC.POLLOUT, -1);
                    break;
                default:
                    return -1;
            }
        }
    }

    /// <inheritdoc/>
    public override void StopReceiving()
    {
        if (_inputIsSocket)
        {
            _ = LibC.shutdown(_input.Fd, LibC.SHUT_RD);
            return;
        }

        ulong one = 1;
        _ = LibC.write(_stopped!.Fd, &one, sizeof(ulong));
    }

    /// <inheritdoc/>
    public override void FinishSending()
    {
        if (_outputIsSocket)
        {
            _ = LibC.shutdown(_output.Fd, LibC.SHUT_WR);
        }
    }

    /// <inheritdoc/>
    public override void Abort()
    {
        StopReceiving();
        if (_outputIsSocket)
        {
            _ = LibC.shutdown(_output.Fd, LibC.SHUT_RDWR);
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _input.Dispose();
        _output.Dispose();
        _stopped?.Dispose();
    }

    private int ReceiveFromSocket(byte* destination, int wanted, bool all)
    {
        if (_polling.TryBegin())
        {
            int received;
            do
            {
                received = (int)LibC.recv(_input.Fd, destination, wanted, LibC.MSG_DONTWAIT);
            }
            while (received < 0 && _polling.Continues());

            _polling.End(received >= 0);
            if (received >= 0)
            {
                return received;
            }
        }

        return (int)LibC.recv(_input.Fd, destination, wanted, all ? LibC.MSG_WAITALL : 0);
    }

    /// <returns>False when receiving was stopped, or the time for a request is over.</returns>
    private bool WaitForInput()
    {
        return Wait(_input.Fd, LibC.POLLIN, _stopped?.Fd ?? -1);
    }

    private bool Wait(int fd, short events, int stopFd)
    {
        pollfd* polled = stackalloc pollfd[2];
        while (true)
        {
            polled[0] = new() { fd = fd, events = events };
            polled[1] = new() { fd = stopFd, events = LibC.POLLIN };
            int ready = LibC.poll(polled, 2, Deadline.Earliest(Deadline, RequestDeadline).RemainingMilliseconds);
            if (ready > 0)
            {
                return polled[0].revents != 0;
            }

            if (ready == 0)
            {
                return RequestDeadline.HasPassed
                    ? false
                    : throw new LostClientException("it did not finish the handshake in time");
            }
        }
    }

    private void Tune(int family)
    {
        // Not for TCP: a size that is set switches off the kernel's own tuning.
        if (family == LibC.AF_UNIX)
        {
            int bytes = SendBufferBytes;
            if (LibC.setsockopt(_output.Fd, LibC.SOL_SOCKET, LibC.SO_SNDBUFFORCE, &bytes, sizeof(int)) < 0)
            {
                _ = LibC.setsockopt(_output.Fd, LibC.SOL_SOCKET, LibC.SO_SNDBUF, &bytes, sizeof(int));
            }

            return;
        }

        int on = 1;
        _ = LibC.setsockopt(_output.Fd, LibC.IPPROTO_TCP, LibC.TCP_NODELAY, &on, sizeof(int));
        _ = LibC.setsockopt(_output.Fd, LibC.SOL_SOCKET, LibC.SO_KEEPALIVE, &on, sizeof(int));
    }

    private static bool IsSocket(SafeFd fd, out int family)
    {
        int domain = 0;
        socklen_t length = sizeof(int);
        bool isSocket = LibC.getsockopt(fd.Fd, LibC.SOL_SOCKET, LibC.SO_DOMAIN, &domain, &length) == 0;
        family = domain;
        return isSocket;
    }
}
