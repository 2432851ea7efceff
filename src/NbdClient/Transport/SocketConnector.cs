using System.Net;
using System.Net.Sockets;
using System.Text;
using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>Opens the stream socket of an endpoint. Every wait ends at a deadline or a cancellation.</summary>
internal static unsafe class SocketConnector
{
    /// <summary>
    /// A send buffer that takes a whole WRITE of 1 MiB and the next one's head: with the default of 208 KiB,
    /// sendmsg(2) of 1 MiB sleeps several times, which costs a quarter of the write throughput on Unix sockets.
    /// </summary>
    private const int UnixSendBufferBytes = 2 * 1024 * 1024;

    /// <summary>sun_path has 108 bytes; a path ends with a NUL, an abstract name starts with one.</summary>
    private const int MaximumSocketPathBytes = 107;

    private const int AF_VSOCK = 40;

    private static readonly TimeSpan s_backlogPause = TimeSpan.FromMilliseconds(20);

    /// <summary>
    /// Connects to a <see cref="NbdEndpoint.Tcp"/>, <see cref="NbdEndpoint.Unix"/> or <see cref="NbdEndpoint.Vsock"/>
    /// endpoint, or takes over the descriptor of a <see cref="NbdEndpoint.Fd"/> one. The socket is blocking and closed
    /// on exec.
    /// </summary>
    /// <exception cref="NbdException">
    /// With the errno of the first address that failed; ETIMEDOUT; EINVAL for what cannot be connected to.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    internal static SafeFd Connect(NbdEndpoint endpoint, Deadline deadline, CancellationToken cancellationToken)
    {
        using SocketWait wait = new(deadline, cancellationToken);
        return endpoint switch
        {
            NbdEndpoint.Tcp tcp => ConnectTcp(tcp, wait, cancellationToken),
            NbdEndpoint.Unix unix => ConnectUnix(unix, wait),
            NbdEndpoint.Vsock vsock => ConnectTo(vsock, AF_VSOCK, EncodeVsock(vsock), wait),
            NbdEndpoint.Fd fd => TakeOver(fd),
            _ => throw new NbdException($"connect to {endpoint}: it must be started, not connected to", Errno.EINVAL),
        };
    }

    private static SafeFd ConnectTcp(NbdEndpoint.Tcp endpoint, SocketWait wait, CancellationToken cancellationToken) =>
        ConnectToAny(endpoint, Resolve(endpoint, wait.Deadline, cancellationToken), wait);

    /// <summary>Connects to the first address of a host where that succeeds.</summary>
    /// <exception cref="NbdException">Tells each address, and why not there, if there are several.</exception>
    internal static SafeFd ConnectToAny(NbdEndpoint.Tcp endpoint, IPAddress[] addresses, SocketWait wait)
    {
        Deadline end = wait.Deadline;
        List<(IPAddress Address, NbdException Failure)> tried = [];
        for (int i = 0; i < addresses.Length; i++)
        {
            // An address that swallows packets gets its share of the time, not all of it.
            int remaining = end.RemainingMilliseconds;
            wait.Deadline = remaining < 0
                ? end
                : Deadline.After(TimeSpan.FromMilliseconds(remaining / (addresses.Length - i)));
            try
            {
                SafeFd socket = ConnectTo(endpoint, new IPEndPoint(addresses[i], endpoint.Port), wait);
                // Commands are small and each is wanted at once. Failure only costs speed.
                SetOption(socket, LibC.IPPROTO_TCP, LibC.TCP_NODELAY, 1);
                return socket;
            }
            catch (NbdException e)
            {
                tried.Add((addresses[i], e));
            }
        }

        throw tried.Count switch
        {
            0 => new NbdException($"connect to {endpoint}: the name has no address", Errno.ENOENT),
            1 => tried[0].Failure,
            _ => FailedEverywhere(endpoint, tried),
        };
    }

    private static NbdException FailedEverywhere(
        NbdEndpoint.Tcp endpoint, List<(IPAddress Address, NbdException Failure)> tried)
    {
        IEnumerable<string> reasons = tried
            .GroupBy(failed => failed.Failure.Errno, failed => failed.Address)
            .Select(group => $"{Reason(endpoint, group.Key)} at {string.Join(", ", group)}");
        return new NbdException($"connect to {endpoint}: {string.Join("; ", reasons)}", tried[0].Failure.Errno);
    }

    private static IPAddress[] Resolve(NbdEndpoint.Tcp endpoint, Deadline deadline, CancellationToken cancellationToken)
    {
        if (endpoint.Port is < 1 or > 65535)
        {
            throw new NbdException($"connect to {endpoint}: the port must be 1 to 65535", Errno.EINVAL);
        }

        if (IPAddress.TryParse(endpoint.Host, out IPAddress? literal))
        {
            return [literal];
        }

        try
        {
            // getaddrinfo(3) cannot be interrupted; if it takes too long, it ends behind our back.
            return Dns.GetHostAddressesAsync(endpoint.Host, cancellationToken)
                .WaitAsync(TimeSpan.FromMilliseconds(deadline.RemainingMilliseconds), cancellationToken)
                .GetAwaiter()
                .GetResult();
        }
        catch (TimeoutException)
        {
            throw TimedOut(endpoint, "finding the address of the host");
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            throw new NbdException($"connect to {endpoint}: cannot find the host: {e.Message}", Errno.ENOENT, e);
        }
    }

    private static SafeFd ConnectUnix(NbdEndpoint.Unix endpoint, SocketWait wait)
    {
        bool isAbstract = endpoint.Path.StartsWith('\0');
        int length = Encoding.UTF8.GetByteCount(endpoint.Path);
        if (length == 0 || (!isAbstract && endpoint.Path.Contains('\0', StringComparison.Ordinal)))
        {
            throw new NbdException($"connect to {endpoint}: this is not the path of a socket", Errno.EINVAL);
        }

        if (length > MaximumSocketPathBytes)
        {
            throw new NbdException(
                $"connect to {endpoint}: the path has {length} bytes, the system allows {MaximumSocketPathBytes}; "
                + "use a shorter one, such as one relative to the current directory",
                Errno.ENAMETOOLONG);
        }

        SafeFd socket = ConnectTo(endpoint, new UnixDomainSocketEndPoint(endpoint.Path), wait);
        EnlargeSendBuffer(socket);
        return socket;
    }

    /// <summary>A sockaddr_vm (vsock(7)): family, two bytes of zero, port, context id, flags and padding of zero.</summary>
    internal static byte[] EncodeVsock(NbdEndpoint.Vsock endpoint)
    {
        byte[] address = new byte[16];
        BitConverter.TryWriteBytes(address, (ushort)AF_VSOCK);
        BitConverter.TryWriteBytes(address.AsSpan(4), endpoint.Port);
        BitConverter.TryWriteBytes(address.AsSpan(8), endpoint.ContextId);
        return address;
    }

    private static SafeFd ConnectTo(NbdEndpoint endpoint, EndPoint address, SocketWait wait)
    {
        int family = address.AddressFamily switch
        {
            AddressFamily.Unix => LibC.AF_UNIX,
            AddressFamily.InterNetworkV6 => LibC.AF_INET6,
            _ => LibC.AF_INET,
        };
        SocketAddress encoded = address.Serialize();
        return ConnectTo(endpoint, family, encoded.Buffer.Span[..encoded.Size], wait);
    }

    private static SafeFd ConnectTo(NbdEndpoint endpoint, int family, ReadOnlySpan<byte> address, SocketWait wait)
    {
        SafeFd? socket = null;
        try
        {
            socket = new SafeFd(
                LibC.socket(family, LibC.SOCK_STREAM | LibC.SOCK_CLOEXEC | LibC.SOCK_NONBLOCK, 0));
            if (socket.IsInvalid)
            {
                throw Failed(endpoint, LinuxException.LastErrno);
            }

            Errno errno = StartConnecting(socket, address, wait);
            if (errno is Errno.EINPROGRESS or Errno.EINTR)
            {
                errno = wait.Until(socket.Fd, LibC.POLLOUT) ? PendingError(socket) : Errno.ETIMEDOUT;
            }

            if (errno == Errno.EAGAIN)
            {
                throw TimedOut(endpoint, "waiting for the server to accept connections: its backlog is full");
            }

            if (errno != Errno.None)
            {
                throw Failed(endpoint, errno);
            }

            MakeBlocking(endpoint, socket);
            SafeFd connected = socket;
            socket = null;
            return connected;
        }
        finally
        {
            socket?.Dispose();
        }
    }

    /// <returns>EAGAIN if the backlog of a Unix socket stayed full up to the deadline.</returns>
    private static Errno StartConnecting(SafeFd socket, ReadOnlySpan<byte> address, SocketWait wait)
    {
        fixed (byte* bytes = address)
        {
            while (true)
            {
                if (LibC.connect(socket.Fd, (sockaddr*)bytes, (uint)address.Length) == 0)
                {
                    return Errno.None;
                }

                Errno errno = LinuxException.LastErrno;
                if (errno != Errno.EAGAIN || !wait.Pause(s_backlogPause))
                {
                    return errno;
                }
            }
        }
    }

    private static SafeFd TakeOver(NbdEndpoint.Fd endpoint)
    {
        SafeFd socket = new(endpoint.Number);
        try
        {
            int type;
            socklen_t size = sizeof(int);
            if (LibC.getsockopt(socket.Fd, LibC.SOL_SOCKET, LibC.SO_TYPE, &type, &size) < 0)
            {
                Errno errno = LinuxException.LastErrno;
                throw new NbdException(
                    $"use of {endpoint} as a connection: {LinuxException.Describe(errno)}; "
                    + "it must be a connected stream socket",
                    errno);
            }

            if (type != LibC.SOCK_STREAM)
            {
                throw new NbdException($"use of {endpoint} as a connection: it is not a stream socket", Errno.EINVAL);
            }

            _ = LibC.fcntl(socket.Fd, LibC.F_SETFD, LibC.FD_CLOEXEC);
            MakeBlocking(endpoint, socket);
            EnlargeSendBuffer(socket);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static void MakeBlocking(NbdEndpoint endpoint, SafeFd socket)
    {
        int flags = LibC.fcntl(socket.Fd, LibC.F_GETFL);
        if (flags < 0 || LibC.fcntl(socket.Fd, LibC.F_SETFL, flags & ~LibC.O_NONBLOCK) < 0)
        {
            throw Failed(endpoint, LinuxException.LastErrno);
        }
    }

    /// <summary>Unix sockets only: a size set on TCP ends its autotuning. Failure only costs speed.</summary>
    private static void EnlargeSendBuffer(SafeFd socket)
    {
        if (GetOption(socket, LibC.SO_DOMAIN) == LibC.AF_UNIX
            && GetOption(socket, LibC.SO_SNDBUF) < UnixSendBufferBytes)
        {
            SetOption(socket, LibC.SOL_SOCKET, LibC.SO_SNDBUF, UnixSendBufferBytes);
            if (GetOption(socket, LibC.SO_SNDBUF) < UnixSendBufferBytes)
            {
                // net.core.wmem_max is smaller; CAP_NET_ADMIN may pass it.
                SetOption(socket, LibC.SOL_SOCKET, LibC.SO_SNDBUFFORCE, UnixSendBufferBytes);
            }
        }
    }

    private static int GetOption(SafeFd socket, int option)
    {
        int value;
        socklen_t size = sizeof(int);
        return LibC.getsockopt(socket.Fd, LibC.SOL_SOCKET, option, &value, &size) < 0 ? -1 : value;
    }

    private static void SetOption(SafeFd socket, int level, int option, int value) =>
        _ = LibC.setsockopt(socket.Fd, level, option, &value, sizeof(int));

    private static Errno PendingError(SafeFd socket) => (Errno)GetOption(socket, LibC.SO_ERROR);

    private static NbdException TimedOut(NbdEndpoint endpoint, string phase) =>
        new($"connect to {endpoint}: the time limit passed while {phase}", Errno.ETIMEDOUT);

    private static NbdException Failed(NbdEndpoint endpoint, Errno errno) =>
        new($"connect to {endpoint}: {Reason(endpoint, errno)}", errno);

    private static string Reason(NbdEndpoint endpoint, Errno errno)
    {
        string hint = errno switch
        {
            Errno.ENOENT or Errno.ECONNREFUSED => " (is the server running?)",
            Errno.EACCES => " (may this user write to the socket?)",
            Errno.ENODEV or Errno.EAFNOSUPPORT when endpoint is NbdEndpoint.Vsock =>
                " (this system has no vsock transport: is it a virtual machine with a vsock device, or is the module "
                + "vhost_vsock, or for CID 1 vsock_loopback, loaded?)",
            Errno.ECONNRESET or Errno.ENETUNREACH or Errno.ETIMEDOUT when endpoint is NbdEndpoint.Vsock =>
                " (is the machine with this CID running, and a server on this port in it?)",
            _ => "",
        };
        return LinuxException.Describe(errno) + hint;
    }
}
