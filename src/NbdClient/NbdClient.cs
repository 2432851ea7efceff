using System.Collections.Concurrent;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// An export of an NBD server, to be read and written at any offset. All members are thread-safe; any number of
/// commands may be in flight at once, and the server may carry them out in any order: two that overlap must not be
/// in flight together unless all of them read.
/// <para>
/// Any offset and length will do. Where the server takes whole blocks only (<see cref="NbdExport.MinimumBlockBytes"/>),
/// a read is widened, and a write reads the blocks that it covers in part, changes them, and writes them back; writes
/// of other clients to those blocks may get lost.
/// </para>
/// <para>
/// A cancelled command ends at once for its caller, who has its buffers back; whether the server carried it out is
/// unknown.
/// </para>
/// </summary>
public sealed partial class NbdClient : IAsyncDisposable
{
    private readonly NbdConnectionPool _pool;
    private readonly NbdByteAccess _bytes;
    private readonly NbdClientOptions _options;
    private readonly ConcurrentQueue<CommandOperation> _idle = new();
    private NbdException? _lost;
    private readonly TaskCompletionSource _allCompleted = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // Commands that did not complete yet, orphans too, transfers of several commands, and one for the client until it is
    // disposed.
    private int _inFlight = 1;
    private int _transfers;
    private int _isDisposed;

    /// <param name="pool">Taken over.</param>
    /// <param name="options">For the time limits, and where callers go on.</param>
    internal NbdClient(NbdConnectionPool pool, NbdClientOptions options)
    {
        _pool = pool;
        _bytes = new NbdByteAccess(pool);
        _options = options;
        ClientMetrics.Add(this);
        pool.StaysOnReceiveThreads = options.AllowSynchronousContinuations;
        pool.ConnectionLost = reason => Interlocked.CompareExchange(ref _lost, reason, null);
    }

    /// <summary>What the server said about the export.</summary>
    public NbdExport Export => _pool.Export;

    /// <summary>
    /// Bytes that can be read and written: the size of the export, rounded down to whole blocks of
    /// <see cref="NbdExport.MinimumBlockBytes"/>, because no command can reach the rest.
    /// </summary>
    public long SizeBytes => _bytes.SizeBytes;

    /// <summary>The server, as it was named when connecting.</summary>
    public NbdEndpoint Endpoint => _pool.Endpoint;

    /// <summary>Whether the connections use TLS.</summary>
    public bool IsEncrypted => _pool.IsEncrypted;

    /// <summary>Number of connections that were opened.</summary>
    public int ConnectionCount => _pool.ConnectionCount;

    /// <summary>Connects to the export that a URI names.</summary>
    /// <param name="uri">
    /// Such as "nbd://localhost/disk" or "nbd+unix:///disk?socket=/run/nbd.sock". What has no effect in it, a misspelt
    /// parameter for instance, is told by <see cref="NbdUri.Warnings"/> only.
    /// </param>
    /// <param name="options">
    /// How; null for the defaults. An nbds URI requires TLS whatever they say, and if it has TLS parameters, these
    /// are used in place of <see cref="NbdClientOptions.Tls"/>.
    /// </param>
    /// <param name="cancellationToken">Gives up at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">
    /// A number of connections or a time limit that <see cref="NbdClientOptions"/> does not allow.
    /// </exception>
    /// <exception cref="NbdException">
    /// The URI is wrong (EINVAL) or needs what is not supported (EOPNOTSUPP); the server cannot be reached
    /// (ENOENT, ECONNREFUSED, ETIMEDOUT, ...), has no such export (ENOENT), refuses it (EACCES, ...) or breaks the
    /// protocol (EPROTO).
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static async Task<NbdClient> ConnectAsync(
        string uri, NbdClientOptions? options = null, CancellationToken cancellationToken = default)
    {
        NbdUri parsed = NbdUri.Parse(uri);
        return await ConnectAsync(
            parsed.Endpoint, parsed.ExportName, parsed.Over(options ?? new NbdClientOptions()), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>Connects to an export of an endpoint, which is started first if it is a command.</summary>
    /// <param name="endpoint">The server.</param>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="options">How; null for the defaults.</param>
    /// <param name="cancellationToken">Gives up at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">As for the overload with a URI.</exception>
    /// <exception cref="NbdException">As for the overload with a URI.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static Task<NbdClient> ConnectAsync(
        NbdEndpoint endpoint,
        string exportName = "",
        NbdClientOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        ArgumentNullException.ThrowIfNull(exportName);
        NbdClientOptions chosen = options ?? new NbdClientOptions();
        chosen.Check(nameof(options));

        // The conversation blocks: it gets a thread of its own for the moment.
        return Task.Factory.StartNew(
            () => new NbdClient(
                NbdConnectionPool.Connect(endpoint, exportName, chosen, cancellationToken), chosen),
            cancellationToken,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
    }

    /// <summary>
    /// Waits for the commands in flight, and for all of a READ or WRITE that takes several, at most
    /// <see cref="NbdClientOptions.CloseTimeout"/>: what is not over then fails with EIO. Sends a FLUSH if anything was
    /// written since the last one, and disconnects.
    /// A server that was started for us has ended afterwards. No command may be begun any more.
    /// </summary>
    /// <exception cref="NbdException">
    /// What was written last may not be on stable storage. The connections are closed all the same.
    /// </exception>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) != 0)
        {
            return;
        }

        ClientMetrics.Remove(this);
        CommandCompleted();
        try
        {
            await _allCompleted.Task.WaitAsync(_options.CloseTimeout).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // The pool fails what is still in flight, and what a transfer still begins.
            NbdException reason = new(
                $"closed by DisposeAsync, which had waited {_options.CloseTimeout.TotalSeconds} s for answers",
                Errno.ETIMEDOUT);
            _ = Interlocked.CompareExchange(ref _lost, reason, null);
        }

        NbdServerError? said = null;
        _pool.ServerError = error => said = error.Command == NbdCommandType.Flush ? error : said;
        Errno flushed = await Task.Factory.StartNew(
            () =>
            {
                using (_pool)
                {
                    return _pool.Close(_options.CloseTimeout, _options.CloseTimeout);
                }
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default).ConfigureAwait(false);
        if (flushed != Errno.None)
        {
            throw Failed(NbdCommandType.Flush, 0, 0, flushed, said);
        }
    }

    /// <summary>Whether this thread must not wait for a command.</summary>
    internal bool ReceivesOnThisThread => _pool.ReceivesOnThisThread;

    /// <summary>Whether <see cref="CommandTimeout"/> is a limit.</summary>
    internal bool HasCommandTimeout => CommandTimeout != Timeout.InfiniteTimeSpan;

    internal TimeSpan CommandTimeout => _options.CommandTimeout;

    /// <summary>Commands that did not complete yet, orphans too.</summary>
    internal int CommandsInFlight =>
        Volatile.Read(ref _inFlight) - Volatile.Read(ref _transfers) - (Volatile.Read(ref _isDisposed) == 0 ? 1 : 0);

    /// <summary>The exception for a command that was not answered in time.</summary>
    internal NbdException TimedOut(NbdCommandType type, long offset, long length) => new(
        $"{Describe(type, offset, length)}: no answer within {CommandTimeout.TotalSeconds} s", Errno.ETIMEDOUT);

    /// <summary>The exception for a command that the server or the connection failed.</summary>
    /// <param name="type">The command.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="errno">The outcome.</param>
    /// <param name="said">What the server said about an error, perhaps another one.</param>
    internal NbdException Failed(NbdCommandType type, long offset, long length, Errno errno, NbdServerError? said)
    {
        if (said?.Errno == errno)
        {
            return new NbdException(
                $"{Describe(type, offset, length)}: {LinuxException.Describe(errno)}; {said.Said}", errno);
        }

        NbdException? cause = errno == Errno.EIO ? Volatile.Read(ref _lost) : null;
        string reason = cause is null ? LinuxException.Describe(errno) : $"connection lost: {cause.Message}";
        return new NbdException($"{Describe(type, offset, length)}: {reason}", errno, cause);
    }

    /// <summary>What a command is called in messages and statistics: as in the specification.</summary>
    internal static string NameOf(NbdCommandType type) => type switch
    {
        NbdCommandType.Read => "READ",
        NbdCommandType.Write => "WRITE",
        NbdCommandType.Flush => "FLUSH",
        NbdCommandType.Trim => "TRIM",
        NbdCommandType.Cache => "CACHE",
        NbdCommandType.WriteZeroes => "WRITE_ZEROES",
        NbdCommandType.BlockStatus => "BLOCK_STATUS",
        _ => type.ToString(),
    };

    /// <summary>A command and its range in messages.</summary>
    internal static string Describe(NbdCommandType type, ulong offset, ulong length) =>
        type == NbdCommandType.Flush ? NameOf(type) : $"{NameOf(type)} of {length} bytes at offset {offset}";

    /// <summary>Called once for each operation that was taken, when the wire has let go of it.</summary>
    internal void CommandCompleted()
    {
        if (Interlocked.Decrement(ref _inFlight) == 0)
        {
            _allCompleted.TrySetResult();
        }
    }

    internal void Recycle(CommandOperation operation) => _idle.Enqueue(operation);

    private string Describe(NbdCommandType type, long offset, long length) =>
        $"{Describe(type, (ulong)offset, (ulong)length)} on {Endpoint.FormatUri(Export.Name, IsEncrypted)}";

    private CommandOperation TakeOperation()
    {
        BeginCommand();
        return NextOperation();
    }

    /// <summary>A command of a transfer, which is begun also when the client is disposed meanwhile.</summary>
    private CommandOperation TakeOperationOfTransfer()
    {
        Interlocked.Increment(ref _inFlight);
        return NextOperation();
    }

    private CommandOperation NextOperation() =>
        _idle.TryDequeue(out CommandOperation? operation) ? operation : new CommandOperation(this);

    private void BeginTransfer()
    {
        BeginCommand();
        Interlocked.Increment(ref _transfers);
    }

    private void EndTransfer()
    {
        Interlocked.Decrement(ref _transfers);
        CommandCompleted();
    }

    /// <summary>Counts a command that is about to be sent; <see cref="CommandCompleted"/> ends it.</summary>
    private void BeginCommand()
    {
        // Counted before the look: DisposeAsync marks before it counts down, so one of the two sees the other.
        Interlocked.Increment(ref _inFlight);
        if (Volatile.Read(ref _isDisposed) != 0)
        {
            CommandCompleted();
            throw new ObjectDisposedException(nameof(NbdClient));
        }
    }
}
