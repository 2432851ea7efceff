using System.Net;
using System.Net.Sockets;
using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>A listening socket, and the file that belongs to it.</summary>
internal sealed unsafe class Listener : IDisposable
{
    // The system lowers it to net.core.somaxconn.
    private const int Backlog = 4096;

    private readonly string? _path;

    private Listener(SafeFd socket, string? path = null)
    {
        Socket = socket;
        _path = path;
    }

    public SafeFd Socket { get; }

    public static Listener Unix(string path)
    {
        UnixDomainSocketEndPoint endPoint;
        try
        {
            endPoint = new(path);
        }
        catch (ArgumentException)
        {
            throw new LinuxException($"listen on the Unix socket '{PlainText.From(path)}'", Errno.ENAMETOOLONG);
        }

        return new(Bind(LibC.AF_UNIX, endPoint, $"listen on the Unix socket '{PlainText.From(path)}'"), path);
    }

    public static Listener Tcp(IPAddress address, int port, out int boundPort)
    {
        IPEndPoint endPoint = new(address, port);
        int family = address.AddressFamily == AddressFamily.InterNetworkV6 ? LibC.AF_INET6 : LibC.AF_INET;
        SafeFd socket = Bind(family, endPoint, $"listen on TCP {endPoint}");
        boundPort = PortOf(socket);
        return new(socket);
    }

    public static Listener Inherited(SafeFd socket)
    {
        int isListening = 0;
        socklen_t length = sizeof(int);
        string what = $"listen on descriptor {socket.Fd}, which was passed to this process";
        if (LibC.getsockopt(socket.Fd, LibC.SOL_SOCKET, LibC.SO_ACCEPTCONN, &isListening, &length) < 0)
        {
            throw LinuxException.FromLastError(what);
        }

        if (isListening == 0)
        {
            // With Accept=yes systemd passes a client.
            throw new LinuxException($"{what} but does not listen", Errno.EINVAL);
        }

        // Ours has it not to be inherited further; who else accepts must not make us wait.
        _ = LibC.fcntl(socket.Fd, LibC.F_SETFD, LibC.FD_CLOEXEC);
        _ = LibC.fcntl(socket.Fd, LibC.F_SETFL, LibC.fcntl(socket.Fd, LibC.F_GETFL) | LibC.O_NONBLOCK);
        return new(socket);
    }

    public void Dispose()
    {
        if (!Socket.IsClosed && _path is not null)
        {
            fixed (byte* path = System.Text.Encoding.UTF8.GetBytes(_path + '\0'))
            {
                _ = LibC.unlink(path);
            }
        }

        Socket.Dispose();
    }

    private static SafeFd Bind(int family, EndPoint endPoint, string what)
    {
        SafeFd socket = new(LibC.socket(family, LibC.SOCK_STREAM | LibC.SOCK_CLOEXEC | LibC.SOCK_NONBLOCK, 0));
        try
        {
            int on = 1;
            int off = 0;
            if (family == LibC.AF_INET6)
            {
                _ = LibC.setsockopt(socket.Fd, LibC.IPPROTO_IPV6, LibC.IPV6_V6ONLY, &off, sizeof(int));
            }

            if (family != LibC.AF_UNIX)
            {
                _ = LibC.setsockopt(socket.Fd, LibC.SOL_SOCKET, LibC.SO_REUSEADDR, &on, sizeof(int));
            }

            SocketAddress address = endPoint.Serialize();
            fixed (byte* bytes = address.Buffer.Span)
            {
                if (socket.IsInvalid
                    || LibC.bind(socket.Fd, (sockaddr*)bytes, (uint)address.Size) < 0
                    || LibC.listen(socket.Fd, Backlog) < 0)
                {
                    throw LinuxException.FromLastError(what);
                }
            }

            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static int PortOf(SafeFd socket)
    {
        // The port is at the same place in sockaddr_in and sockaddr_in6, big-endian.
        const int AddressBytes = 128;
        byte* address = stackalloc byte[AddressBytes];
        socklen_t length = AddressBytes;
        return LibC.getsockname(socket.Fd, (sockaddr*)address, &length) < 0
            ? throw LinuxException.FromLastError("getsockname")
            : (address[2] << 8) | address[3];
    }
}
