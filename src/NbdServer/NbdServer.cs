using Linux;

namespace Nbd;

/// <summary>
/// An NBD server (fixed newstyle). Make it, let it listen, start it, stop it. All members are thread-safe.
/// </summary>
public sealed partial class NbdServer : IAsyncDisposable
{
    private static readonly TimeSpan s_cutOffTime = TimeSpan.FromSeconds(1);

    private readonly NbdServerOptions _options;
    private readonly TlsIdentity? _tls;
    private readonly PayloadPool _pool;
    private readonly ServerLog _log;

    // Guards all below; the listeners also have their thread, which reads them once they are complete.
    private readonly Lock _gate = new();
    private readonly HashSet<ServerConnection> _connections = [];
    private readonly List<Listener> _listeners = [];
#pragma warning disable CA2213 // StopAsync disposes it.
    private AcceptLoop? _acceptLoop;
#pragma warning restore CA2213
    private Task<bool>? _stopped;

    /// <summary>Makes a server that does not listen yet.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A limit is out of its range.</exception>
    /// <exception cref="IOException">The certificates cannot be read.</exception>
    public NbdServer(NbdServerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        const int MinimumPayloadBytes = 64 * 1024;
        const int MaximumInFlight = 1024;
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaximumConnections, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaximumRequestsInFlight, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MaximumRequestsInFlight, MaximumInFlight);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaximumPayloadBytes, MinimumPayloadBytes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(
            options.MaximumPayloadBytes, Protocol.NbdLimits.MaximumPayloadBytes);
        if (!int.IsPow2(options.MaximumPayloadBytes))
        {
            throw new ArgumentOutOfRangeException(nameof(options), "MaximumPayloadBytes is not a power of two");
        }

        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaximumMemoryBytes, options.MaximumPayloadBytes);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(options.RequestTimeout, TimeSpan.Zero);
        _options = options;
        _tls = options.Tls is null ? null : new TlsIdentity(options.Tls);
        _pool = new PayloadPool(options.MaximumMemoryBytes);
        _log = new ServerLog(options.Log);
    }

    /// <summary>Clients that are connected.</summary>
    public int ConnectionCount
    {
        get
        {
            lock (_gate)
            {
                return _connections.Count;
            }
        }
    }

    /// <summary>Requests that were answered, of all clients.</summary>
    public long RequestsServed => _pool.RequestsServed;

    /// <summary>Begins to accept clients on everything that was listened on.</summary>
    /// <exception cref="InvalidOperationException">It was started or stopped before.</exception>
    public void Start()
    {
        lock (_gate)
        {
            if (_acceptLoop is not null || _stopped is not null)
            {
                throw new InvalidOperationException("the server was started or stopped before");
            }

            _acceptLoop = new AcceptLoop([.. _listeners], Accept, _log);
        }
    }

    /// <summary>Serves one client on a connected socket, and owns it from now on.</summary>
    /// <returns>Ends when the client has left; never fails.</returns>
    public Task ServeAsync(SafeFd connectedSocket, CancellationToken cancellationToken = default) =>
        ServeAsync(connectedSocket, connectedSocket, cancellationToken);

    /// <summary>Serves one client on two descriptors, and owns them from now on.</summary>
    /// <remarks>
    /// Standard input and output may be served on; /dev/null takes their place, so that nobody prints into the
    /// conversation.
    /// </remarks>
    /// <returns>Ends when the client has left; never fails.</returns>
    public async Task ServeAsync(SafeFd input, SafeFd output, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(output);
        if (Begin(input, output) is ServerConnection connection)
        {
            using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
                static state => ((ServerConnection)state!).Abort(), connection);
            await connection.Finished.ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Stops accepting, finishes the requests that are served right now, flushes and closes. Requests that come
    /// meanwhile get ESHUTDOWN.
    /// </summary>
    /// <param name="grace">When it is over, what is left is cut off.</param>
    /// <returns>
    /// Whether all ended; false when a second after that a backend still has not ended its requests, which then are
    /// left to themselves.
    /// </returns>
    public Task<bool> StopAsync(TimeSpan grace)
    {
        lock (_gate)
        {
            return _stopped ??= Task.Run(() => StopOnceAsync(grace));
        }
    }

    /// <summary>Stops with 5 seconds of grace, unless that was done before.</summary>
    public async ValueTask DisposeAsync() => await StopAsync(TimeSpan.FromSeconds(5)).ConfigureAwait(false);

    private async Task<bool> StopOnceAsync(TimeSpan grace)
    {
        AcceptLoop? acceptLoop;
        List<Listener> listeners;
        lock (_gate)
        {
            acceptLoop = _acceptLoop;
            listeners = [.. _listeners];
        }

        acceptLoop?.Dispose();
        listeners.ForEach(listener => listener.Dispose());

        // _stopped is set: no connection comes after these.
        List<ServerConnection> connections;
        lock (_gate)
        {
            connections = [.. _connections];
        }

        connections.ForEach(connection => connection.BeginStop());
        Task all = Task.WhenAll(connections.Select(connection => connection.Finished));
        if (!await EndsWithin(all, grace).ConfigureAwait(false))
        {
            connections.ForEach(connection => connection.Abort());
            if (!await EndsWithin(all, s_cutOffTime).ConfigureAwait(false))
            {
                _log.Write("a backend does not end its requests; its connection is left to itself");
                return false;
            }
        }

        _pool.Close();
        _tls?.Dispose();
        return true;
    }

    private static async Task<bool> EndsWithin(Task task, TimeSpan time)
    {
        await Task.WhenAny(task, Task.Delay(time)).ConfigureAwait(false);
        return task.IsCompleted;
    }

    private void Accept(SafeFd socket) => _ = Begin(socket, socket);

    /// <returns>Null if there is no room or no time: then the descriptors are closed.</returns>
    private ServerConnection? Begin(SafeFd input, SafeFd output)
    {
        ServerConnection? connection = null;
        string problem;
        try
        {
            (input, output) = TakeStandard(input, output);
            connection = new(new DescriptorTransport(input, output, _options.RequestTimeout), _options, _tls, _pool, _log, OnEnded);
            problem = TryAdd(connection);
            if (problem.Length == 0)
            {
                connection.Start();
                return connection;
            }
        }
        catch (Exception exception) when (exception is IOException or OutOfMemoryException or ThreadStartException)
        {
            problem = PlainText.From(exception.Message);
        }

        if (connection is null)
        {
            input.Dispose();
            output.Dispose();
        }
        else
        {
            connection.Close();
            lock (_gate)
            {
                _connections.Remove(connection);
            }
        }

        _log.Write($"a client was turned away: {problem}");
        return null;
    }

    private static (SafeFd Input, SafeFd Output) TakeStandard(SafeFd input, SafeFd output)
    {
        SafeFd moved = StandardDescriptor.MoveAway(input);
        return (moved, output == input ? moved : StandardDescriptor.MoveAway(output));
    }

    private string TryAdd(ServerConnection connection)
    {
        lock (_gate)
        {
            if (_stopped is not null)
            {
                return "the server is stopping";
            }

            if (_connections.Count >= _options.MaximumConnections)
            {
                return $"there are {_options.MaximumConnections} already";
            }

            _connections.Add(connection);
            return "";
        }
    }

    private void OnEnded(ServerConnection connection)
    {
        int left;
        lock (_gate)
        {
            _connections.Remove(connection);
            left = _connections.Count;
        }

        _options.ClientLeft?.Invoke(left);
    }
}
