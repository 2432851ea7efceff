using System.Net;
using Linux;

namespace Nbd;

/// <summary>
/// An NBD server (fixed newstyle). Make it, let it listen, start it, stop it. All members are thread-safe.
/// </summary>
public sealed partial class NbdServer : IAsyncDisposable
{
    private readonly NbdServerOptions _options;

    /// <summary>Makes a server that does not listen yet.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A limit is out of its range.</exception>
    /// <exception cref="IOException">The certificates cannot be read.</exception>
    public NbdServer(NbdServerOptions options)
    {
        _options = options;
    }

    /// <summary>Clients that are connected.</summary>
    public int ConnectionCount => throw new NotImplementedException();

    /// <summary>Requests that were answered.</summary>
    public long RequestsServed => throw new NotImplementedException();

    /// <summary>Listens on a Unix socket. The file is removed when the server stops.</summary>
    /// <param name="path">Up to 107 bytes; must not exist.</param>
    /// <exception cref="LinuxException">E.g. EADDRINUSE: the path exists.</exception>
    public void ListenUnix(string path) => throw new NotImplementedException();

    /// <summary>Listens on a TCP port.</summary>
    /// <param name="address">Local address; IPv6Any takes IPv4 too.</param>
    /// <param name="port">0 to 65535; 0 lets the system choose.</param>
    /// <returns>The port.</returns>
    /// <exception cref="LinuxException">E.g. EADDRINUSE.</exception>
    public int ListenTcp(IPAddress address, int port) => throw new NotImplementedException();

    /// <summary>Listens on a socket that is bound and listening already, and owns it from now on.</summary>
    public void ListenInherited(SafeFd listeningSocket) => throw new NotImplementedException();

    /// <summary>
    /// Listens on the sockets that were passed by socket activation (LISTEN_PID, LISTEN_FDS), and removes these
    /// variables from the environment.
    /// </summary>
    /// <returns>False when there are none.</returns>
    public bool ListenActivated() => throw new NotImplementedException();

    /// <summary>Begins to accept clients on everything that was listened on.</summary>
    public void Start() => throw new NotImplementedException();

    /// <summary>Serves one client on a connected socket, and owns it from now on.</summary>
    /// <returns>Ends when the client has left; never fails.</returns>
    public Task ServeAsync(SafeFd connectedSocket, CancellationToken cancellationToken = default) =>
        ServeAsync(connectedSocket, connectedSocket, cancellationToken);

    /// <summary>Serves one client on two descriptors, e.g. standard input and output, and owns them from now on.</summary>
    /// <returns>Ends when the client has left; never fails.</returns>
    public Task ServeAsync(SafeFd input, SafeFd output, CancellationToken cancellationToken = default) =>
        throw new NotImplementedException();

    /// <summary>
    /// Stops accepting, finishes the requests that are served right now, flushes and closes. Requests that come
    /// meanwhile get ESHUTDOWN.
    /// </summary>
    /// <param name="grace">When it is over, what is left is cut off.</param>
    public Task StopAsync(TimeSpan grace) => throw new NotImplementedException();

    /// <summary>Stops with 5 seconds of grace, unless that was done before.</summary>
    public async ValueTask DisposeAsync() => await StopAsync(TimeSpan.FromSeconds(5)).ConfigureAwait(false);

    /// <summary>
    /// A whole program: serves as <paramref name="args"/> say until SIGTERM, SIGINT, or the last client of an
    /// <c>-s</c> left. <c>--unix PATH</c>, <c>--tcp [ADDRESS:]PORT</c>, <c>-s</c> for one client on standard input
    /// and output; without any, the sockets of socket activation, else TCP port 10809 of the loopback address.
    /// </summary>
    /// <param name="args">The program's arguments.</param>
    /// <param name="openExport">Opens what an export name stands for; null when there is no such export.</param>
    /// <returns>Exit status: 0, or 1 after one line on standard error.</returns>
    public static Task<int> RunAsync(string[] args, Func<string, NbdBackend?> openExport) =>
        throw new NotImplementedException();
}
