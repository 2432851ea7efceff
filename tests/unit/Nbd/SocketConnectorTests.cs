using System.Net;
using System.Net.Sockets;
using global::Nbd;
using Linux;
using Tmds.Linux;

namespace UnitTests.Nbd;

public sealed class SocketConnectorTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("nbd-");

    private string SocketPath => Path.Combine(_directory.FullName, "s");

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public void A_Unix_socket_is_blocking_closed_on_exec_and_has_a_large_send_buffer()
    {
        using Socket listener = Listen(new UnixDomainSocketEndPoint(SocketPath));
        using SafeFd socket = Connect(new NbdEndpoint.Unix(SocketPath));

        Assert.Equal(0, LibC.fcntl(socket.Fd, LibC.F_GETFL) & LibC.O_NONBLOCK);
        Assert.Equal(LibC.FD_CLOEXEC, LibC.fcntl(socket.Fd, LibC.F_GETFD) & LibC.FD_CLOEXEC);
        int limit = int.Parse(File.ReadAllText("/proc/sys/net/core/wmem_max"));
        Assert.True(Option(socket, LibC.SOL_SOCKET, LibC.SO_SNDBUF) >= Math.Min(limit, 2 * 1024 * 1024));
    }

    [Fact]
    public void An_abstract_socket_is_reached_by_its_name()
    {
        string name = "\0nbd-test-" + Guid.NewGuid();
        using Socket listener = Listen(new UnixDomainSocketEndPoint(name));
        using SafeFd socket = Connect(new NbdEndpoint.Unix(name));

        Assert.False(socket.IsInvalid);
    }

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("localhost")]
    public void A_TCP_socket_does_not_delay_small_commands(string host)
    {
        using Socket listener = Listen(new IPEndPoint(IPAddress.Loopback, 0));
        using SafeFd socket = Connect(new NbdEndpoint.Tcp(host, ((IPEndPoint)listener.LocalEndPoint!).Port));

        Assert.Equal(1, Option(socket, LibC.IPPROTO_TCP, LibC.TCP_NODELAY));
        Assert.Equal(0, LibC.fcntl(socket.Fd, LibC.F_GETFL) & LibC.O_NONBLOCK);
    }

    [Fact]
    public void A_missing_socket_is_reported_with_its_path()
    {
        NbdException exception = Assert.Throws<NbdException>(() => Connect(new NbdEndpoint.Unix(SocketPath)));

        Assert.Equal(
            $"connect to unix:{SocketPath}: No such file or directory (is the server running?)", exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    [Fact]
    public void A_refusing_port_is_reported()
    {
        // Bound, so that nobody else listens there, but it does not listen itself.
        using Socket bound = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        bound.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        int port = ((IPEndPoint)bound.LocalEndPoint!).Port;

        NbdException exception = Assert.Throws<NbdException>(() => Connect(new NbdEndpoint.Tcp("127.0.0.1", port)));

        Assert.Equal($"connect to 127.0.0.1:{port}: Connection refused (is the server running?)", exception.Message);
        Assert.Equal(Errno.ECONNREFUSED, exception.Errno);
    }

    [Fact]
    public void All_addresses_of_a_host_are_tried_in_turn()
    {
        using Socket listener = Listen(new IPEndPoint(IPAddress.Loopback, 0));
        NbdEndpoint.Tcp endpoint = new("host.example", ((IPEndPoint)listener.LocalEndPoint!).Port);
        using SocketWait wait = new(HandshakeTests.Soon(), CancellationToken.None);

        using SafeFd socket = SocketConnector.ConnectToAny(endpoint, Addresses("127.0.0.2", "127.0.0.1"), wait);

        Assert.Equal(1, Option(socket, LibC.IPPROTO_TCP, LibC.TCP_NODELAY));
    }

    /// <summary>A full backlog, so that the kernel drops what wants to connect, stands for an address that swallows packets.</summary>
    [Fact]
    public void An_address_that_does_not_answer_is_left_for_the_next()
    {
        using Socket silent = Listen(new IPEndPoint(IPAddress.Loopback, 0), backlog: 0);
        NbdEndpoint.Tcp endpoint = new("host.example", ((IPEndPoint)silent.LocalEndPoint!).Port);
        using SafeFd first = Connect(endpoint with { Host = "127.0.0.1" });
        using Socket listener = Listen(new IPEndPoint(IPAddress.Parse("127.0.0.2"), endpoint.Port));
        using SocketWait wait = new(Deadline.After(TimeSpan.FromMilliseconds(500)), CancellationToken.None);

        using SafeFd socket = SocketConnector.ConnectToAny(endpoint, Addresses("127.0.0.1", "127.0.0.2"), wait);

        Assert.False(socket.IsInvalid);
    }

    [Fact]
    public void All_addresses_that_were_tried_are_told_with_their_reasons()
    {
        using Socket silent = Listen(new IPEndPoint(IPAddress.Loopback, 0), backlog: 0);
        NbdEndpoint.Tcp endpoint = new("host.example", ((IPEndPoint)silent.LocalEndPoint!).Port);
        using SafeFd first = Connect(endpoint with { Host = "127.0.0.1" });
        using SocketWait wait = new(Deadline.After(TimeSpan.FromMilliseconds(60)), CancellationToken.None);

        NbdException exception = Assert.Throws<NbdException>(() => SocketConnector.ConnectToAny(
            endpoint, Addresses("127.0.0.2", "127.0.0.1", "127.0.0.3"), wait));

        Assert.Equal(
            $"connect to host.example:{endpoint.Port}: Connection refused (is the server running?) at 127.0.0.2, 127.0.0.3; "
            + "Connection timed out at 127.0.0.1",
            exception.Message);
        Assert.Equal(Errno.ECONNREFUSED, exception.Errno);
    }

    [Fact]
    public void A_full_backlog_is_waited_for_until_the_deadline()
    {
        using Socket listener = Listen(new UnixDomainSocketEndPoint(SocketPath), backlog: 0);
        using SafeFd first = Connect(new NbdEndpoint.Unix(SocketPath));

        NbdException exception = Assert.Throws<NbdException>(() => SocketConnector.Connect(
            new NbdEndpoint.Unix(SocketPath), Deadline.After(TimeSpan.FromMilliseconds(50)), CancellationToken.None));

        Assert.Contains("its backlog is full", exception.Message);
        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
    }

    [Fact]
    public void A_TCP_port_that_does_not_answer_is_waited_for_until_the_deadline()
    {
        // The kernel drops what wants to connect while the backlog is full.
        using Socket listener = Listen(new IPEndPoint(IPAddress.Loopback, 0), backlog: 0);
        NbdEndpoint endpoint = new NbdEndpoint.Tcp("127.0.0.1", ((IPEndPoint)listener.LocalEndPoint!).Port);
        using SafeFd first = Connect(endpoint);

        NbdException exception = Assert.Throws<NbdException>(() => SocketConnector.Connect(
            endpoint, Deadline.After(TimeSpan.FromMilliseconds(50)), CancellationToken.None));

        Assert.Equal($"connect to {endpoint}: Connection timed out", exception.Message);
        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
    }

    [Fact]
    public async Task A_full_backlog_that_empties_is_no_error()
    {
        using Socket listener = Listen(new UnixDomainSocketEndPoint(SocketPath), backlog: 0);
        using SafeFd first = Connect(new NbdEndpoint.Unix(SocketPath));
        Task<SafeFd> second = Task.Run(() => Connect(new NbdEndpoint.Unix(SocketPath)));

        using Socket accepted = await listener.AcceptAsync(TestContext.Current.CancellationToken);
        (await second).Dispose();
    }

    [Fact]
    public void Waiting_for_the_backlog_can_be_cancelled()
    {
        using Socket listener = Listen(new UnixDomainSocketEndPoint(SocketPath), backlog: 0);
        using SafeFd first = Connect(new NbdEndpoint.Unix(SocketPath));
        using CancellationTokenSource cancellation = new(TimeSpan.FromMilliseconds(30));

        Assert.Throws<OperationCanceledException>(() => SocketConnector.Connect(
            new NbdEndpoint.Unix(SocketPath), HandshakeTests.Soon(), cancellation.Token));
    }

    [Fact]
    public void Paths_that_no_socket_can_have_are_refused()
    {
        Assert.Equal(Errno.EINVAL, Refuse(new NbdEndpoint.Unix("")).Errno);
        Assert.Equal(Errno.EINVAL, Refuse(new NbdEndpoint.Unix("a\0b")).Errno);
        NbdException tooLong = Refuse(new NbdEndpoint.Unix(new string('a', 108)));
        Assert.Equal(Errno.ENAMETOOLONG, tooLong.Errno);
        Assert.Contains("has 108 bytes, the system allows 107", tooLong.Message);
        Assert.Equal(Errno.EINVAL, Refuse(new NbdEndpoint.Tcp("localhost", 0)).Errno);
        Assert.Equal(Errno.EINVAL, Refuse(new NbdEndpoint.Command(["x"])).Errno);
    }

    [Fact]
    public void A_vsock_address_is_encoded_as_the_kernel_expects_it()
    {
        // struct sockaddr_vm of linux/vm_sockets.h: family 40, port 10809 and context 2 in the machine's byte order.
        byte[] expected = BitConverter.IsLittleEndian
            ? [40, 0, 0, 0, 0x39, 0x2a, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
            : [0, 40, 0, 0, 0, 0, 0x2a, 0x39, 0, 0, 0, 2, 0, 0, 0, 0];

        Assert.Equal(expected, SocketConnector.EncodeVsock(new NbdEndpoint.Vsock(NbdEndpoint.Vsock.Host)));
    }

    [Fact]
    public void A_virtual_machine_that_is_not_there_is_reported()
    {
        // What comes back depends on the transports that the kernel has.
        NbdException exception = Refuse(new NbdEndpoint.Vsock(0x7ffffff0, 65000));

        Assert.StartsWith("connect to vsock:2147483632:65000: ", exception.Message);
        Errno[] possible =
            [Errno.ENODEV, Errno.EAFNOSUPPORT, Errno.ECONNRESET, Errno.ENETUNREACH, Errno.ETIMEDOUT];
        Assert.Contains(exception.Errno, possible);
        Assert.Matches("no vsock transport|machine with this CID", exception.Message);
    }

    [Fact]
    public void An_unknown_host_is_reported()
    {
        NbdException exception = Refuse(new NbdEndpoint.Tcp("no-such-host.invalid"));

        Assert.StartsWith("connect to no-such-host.invalid:10809: cannot find the host", exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    [Fact]
    public unsafe void A_passed_descriptor_is_taken_over_as_a_blocking_socket()
    {
        int* pair = stackalloc int[2];
        Assert.Equal(0, LibC.socketpair(LibC.AF_UNIX, LibC.SOCK_STREAM | LibC.SOCK_NONBLOCK, 0, pair));
        using SafeFd other = new(pair[1]);
        using SafeFd socket = Connect(new NbdEndpoint.Fd(pair[0]));

        Assert.Equal(pair[0], socket.Fd);
        Assert.Equal(0, LibC.fcntl(socket.Fd, LibC.F_GETFL) & LibC.O_NONBLOCK);
        Assert.Equal(LibC.FD_CLOEXEC, LibC.fcntl(socket.Fd, LibC.F_GETFD) & LibC.FD_CLOEXEC);
    }

    [Fact]
    public unsafe void A_passed_descriptor_that_is_no_socket_is_refused()
    {
        int* pair = stackalloc int[2];
        Assert.Equal(0, LibC.pipe2(pair, LibC.O_CLOEXEC));
        using SafeFd other = new(pair[1]);

        Assert.Contains("must be a connected stream socket", Refuse(new NbdEndpoint.Fd(pair[0])).Message);
        Assert.Equal(Errno.EBADF, Refuse(new NbdEndpoint.Fd(int.MaxValue)).Errno);
    }

    private static Socket Listen(EndPoint address, int backlog = 8)
    {
        Socket listener = new(address.AddressFamily, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(address);
        listener.Listen(backlog);
        return listener;
    }

    private static IPAddress[] Addresses(params string[] addresses) => [.. addresses.Select(IPAddress.Parse)];

    private static SafeFd Connect(NbdEndpoint endpoint) =>
        SocketConnector.Connect(endpoint, HandshakeTests.Soon(), CancellationToken.None);

    private static NbdException Refuse(NbdEndpoint endpoint) => Assert.Throws<NbdException>(() => Connect(endpoint));

    private static unsafe int Option(SafeFd socket, int level, int option)
    {
        int value;
        socklen_t size = sizeof(int);
        Assert.Equal(0, LibC.getsockopt(socket.Fd, level, option, &value, &size));
        return value;
    }
}
