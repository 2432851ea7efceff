using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// The connections of one export, used in turn. This is the level beneath <c>NbdClient</c>: it allocates nothing
/// per command and splits nothing: what is not whole blocks, or is more than one command can carry, is refused with
/// EINVAL. Ranges are not checked against the size of the export. <see cref="NbdByteAccess"/> takes any range.
/// Thread-safe.
/// </summary>
public sealed unsafe partial class NbdConnectionPool : IDisposable
{
    /// <summary>Largest number of connections that can be asked for.</summary>
    public const int MaximumConnections = 1024;

    /// <summary>
    /// Most extents of one meta context in the answer to one BLOCK_STATUS (proto.md, "NBD_REPLY_TYPE_BLOCK_STATUS").
    /// </summary>
    public const int MaximumDescriptors = 1 << 20;

    private const long NotFlushed = -1;
    private const ulong LargeBytes = 64 << 10;

    private static readonly TimeSpan s_disconnectTime = TimeSpan.FromSeconds(5);

    private readonly NbdConnection[] _connections;
    private readonly CaptiveServer? _captive;
    private readonly RingSet? _rings;
    private readonly bool _keepsBlockSizes;
    private int _turn;

    // In the high half, the number of commands that changed data; in the low half, those that are just being
    // submitted. The high half equals _flushed when a FLUSH covered all of them.
    private long _changes;
    private long _flushed;

    // A connection was lost after a change that no FLUSH had covered: the next FLUSH must not claim success.
    private int _lostChanges;

    private NbdConnectionPool(
        NbdEndpoint endpoint, CaptiveServer? captive, NegotiatedConnection first, int connections, NbdClientOptions options)
    {
        (Endpoint, _captive, Export) = (endpoint, captive, first.Export);
        IsEncrypted = first.Tls is not null;
        // Rings drive plain sockets alone. Each uses its own connection for the requests of its processors: with more
        // connections than processors some would never be used.
        _rings = IsEncrypted || connections > Environment.ProcessorCount ? null : options.Rings;
        _keepsBlockSizes = !options.IgnoreBlockSizes;
        _connections = new NbdConnection[connections];
    }

    /// <summary>Whether something may have changed that no FLUSH covered.</summary>
    private bool IsDirty => Interlocked.Read(ref _changes) >> 32 != Volatile.Read(ref _flushed);

    /// <summary>The server, as it was named to <see cref="Connect"/>.</summary>
    public NbdEndpoint Endpoint { get; }

    /// <summary>What the server said about the export.</summary>
    public NbdExport Export { get; }

    /// <summary>Whether the connections use TLS.</summary>
    public bool IsEncrypted { get; }

    /// <summary>
    /// Whether the connections are driven by <see cref="NbdClientOptions.Rings"/>: not with TLS, and not when there are
    /// more of them than processors.
    /// </summary>
    public bool UsesRings => _rings is not null;

    /// <summary>Number of connections that were opened.</summary>
    public int ConnectionCount => _connections.Length;

    /// <summary>Whether the server was started by us, so that nobody else can be connected to it.</summary>
    public bool IsCaptive => _captive is not null;

    /// <summary>Largest READ of one command, in bytes: a multiple of the minimum block size.</summary>
    public int MaximumReadBytes => _keepsBlockSizes
        ? Math.Min(NbdConnection.MaximumReadBytes, Export.MaximumPayloadBytes)
        : NbdConnection.MaximumReadBytes;

    /// <summary>Commands that were accepted and did not complete yet.</summary>
    public int InFlight
    {
        get
        {
            int sum = 0;
            foreach (NbdConnection connection in _connections)
            {
                sum += connection.InFlight;
            }

            return sum;
        }
    }

    private int ChangesInFlight
    {
        get
        {
            int sum = 0;
            foreach (NbdConnection connection in _connections)
            {
                sum += connection.ChangesInFlight;
            }

            return sum;
        }
    }

    /// <summary>
    /// Called once for each connection that is lost, with the reason, on the receive thread. Set it before the
    /// first command.
    /// </summary>
    public Action<NbdException>? ConnectionLost { get; set; }

    /// <summary>
    /// Called with what the server said about a command that it failed, after the completion's
    /// <see cref="NbdCompletion.OnServerError"/>, on the receive thread, which it must not block: a server may do so for each
    /// command. Set it before the first command.
    /// </summary>
    public Action<NbdServerError>? ServerError { get; set; }

    /// <summary>Whether this thread receives the answers of one of the connections.</summary>
    internal bool ReceivesOnThisThread => NbdConnection.OfThisThread is { } own && Has(own);

    /// <summary>
    /// Whether those who await commands go on on the receive threads, as completions do. Set it before the first command.
    /// </summary>
    internal bool StaysOnReceiveThreads
    {
        set
        {
            foreach (NbdConnection connection in _connections)
            {
                connection.StaysOnReceiveThread = value;
            }
        }
    }

    /// <summary>
    /// Sends a FLUSH: all commands whose completion was called before are on stable storage when it succeeds, also
    /// those of other connections (proto.md, "Ordering of messages and writes").
    /// </summary>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>
    /// As for <see cref="Read(ulong, uint, NbdCommandFlags, NbdCompletion)"/>; EIO also once after a connection was
    /// lost with changes that no FLUSH had covered.
    /// </returns>
    public Errno Flush(NbdCompletion completion)
    {
        if (Interlocked.Exchange(ref _lostChanges, 0) != 0)
        {
            return Errno.EIO;
        }

        // It covers those whose completion was called before: all of them if none is on its way. What is submitted after
        // this line counts in _changes, so that it does not matter whether it is seen below.
        long changes = Interlocked.Read(ref _changes);
        bool coversAll = (uint)changes == 0 && ChangesInFlight == 0;
        Volatile.Write(ref _flushed, coversAll ? changes >> 32 : NotFlushed);
        Errno error = Submit(NbdCommandType.Flush, NbdCommandFlags.None, 0, 0, null, completion);
        if (error != Errno.None)
        {
            Volatile.Write(ref _flushed, NotFlushed);
        }

        return error;
    }

    /// <summary>Cuts all connections: what is in flight completes with EIO, soon.</summary>
    public void Abort(NbdException reason)
    {
        foreach (NbdConnection connection in _connections)
        {
            connection.Fail(reason);
        }
    }

    /// <summary>
    /// Ends politely: if anything changed since the last FLUSH, waits for the changes in flight and sends another;
    /// disconnects, and waits for a server of our own to end. No command may be sent any more.
    /// </summary>
    /// <param name="flushTimeout">Time limit for the changes in flight and the FLUSH, together.</param>
    /// <param name="closeTimeout">
    /// Time limit for the rest, at most 5 seconds of it for the connections; after it, connections are cut and a
    /// server of our own is killed.
    /// </param>
    /// <returns>None, or why the last changes may not be on stable storage.</returns>
    public Errno Close(TimeSpan flushTimeout, TimeSpan closeTimeout)
    {
        Errno flushed = IsDirty ? FlushAndWait(Deadline.After(flushTimeout)) : Errno.None;
        Deadline closeDeadline = Deadline.After(closeTimeout);
        Deadline disconnectDeadline = Deadline.After(closeTimeout < s_disconnectTime ? closeTimeout : s_disconnectTime);
        foreach (NbdConnection connection in _connections)
        {
            connection.Close(disconnectDeadline);
        }

        _captive?.Stop(closeDeadline);
        return flushed;
    }

    /// <summary>Cuts what <see cref="Close"/> did not close, and ends a server of our own.</summary>
    public void Dispose()
    {
        foreach (NbdConnection? connection in _connections)
        {
            connection?.Dispose();
        }

        _captive?.Dispose();
    }

    private Errno SubmitChange(
        NbdCommandType type, NbdCommandFlags flags, ulong offset, ulong length, byte* payload, NbdCompletion completion)
    {
        if (!IsSendable(type, offset, length))
        {
            return Errno.EINVAL;
        }

        const long OneChange = 1L << 32;
        const long OneSubmission = 1;
        _ = Interlocked.Add(ref _changes, OneChange + OneSubmission);
        Errno error = Send(type, flags, offset, length, payload, completion);
        _ = Interlocked.Add(ref _changes, -OneSubmission);
        return error;
    }

    private Errno Submit(
        NbdCommandType type, NbdCommandFlags flags, ulong offset, ulong length, byte* memory, NbdCompletion completion) =>
        IsSendable(type, offset, length)
            ? Send(type, flags, offset, length, memory, completion)
            : Errno.EINVAL;

    private Errno Send(
        NbdCommandType type, NbdCommandFlags flags, ulong offset, ulong length, byte* memory, NbdCompletion completion,
        bool isAwaited = true)
    {
        uint turn = FirstChoice(type, length, isAwaited);
        for (int i = 0; i < _connections.Length; i++)
        {
            NbdConnection connection = _connections[(turn + (uint)i) % (uint)_connections.Length];
            Errno error = connection.Submit(type, flags, offset, length, memory, completion);
            if (error != Errno.ENOTCONN)
            {
                return error;
            }
        }

        return Errno.EIO;
    }

    /// <summary>
    /// A thread that drives a connection uses that: a completion goes on where its reply came from. The other's send lock and
    /// receive thread are left alone, which made 4 KiB commands at depth 32 over two connections 1.4 to 2.7 times as many
    /// (2 processors, nbdkit and nbdserve). A thread of the pool that goes on with awaited commands does so for small ones, as
    /// long as the connection whose turn it is has not fewer in flight. All other threads take turns; so do those of rings with
    /// large READs, where it matters more that two of them receive: not with large WRITEs (1 MiB at depth 4 x1.1-1.2, 64 KiB at
    /// depth 8 x1.4). What nobody waits for is received by another ring, because this one has to commit it, on the processor of
    /// the program that will read it (buffered sequential reads x1.35).
    /// </summary>
    private uint FirstChoice(NbdCommandType type, ulong length, bool isAwaited)
    {
        if (_rings is not null && RingLoop.Current is RingLoop loop)
        {
            if (length < LargeBytes || type == NbdCommandType.Write || _connections.Length == 1)
            {
                return (uint)loop.Index;
            }

            uint next = (uint)Interlocked.Increment(ref _turn);
            return isAwaited ? next : (uint)loop.Index + 1 + (next % ((uint)_connections.Length - 1));
        }

        if (ReceivesOnThisThread)
        {
            return (uint)NbdConnection.OfThisThread!.Index;
        }

        uint turn = (uint)Interlocked.Increment(ref _turn);
        return length < LargeBytes && AnsweredCommands.OfThisThread is { } last && Has(last)
            && last.InFlight <= _connections[turn % (uint)_connections.Length].InFlight
            ? (uint)last.Index
            : turn;
    }

    private bool Has(NbdConnection connection) =>
        connection.Index < _connections.Length && _connections[connection.Index] == connection;

    private bool IsSendable(NbdCommandType type, ulong offset, ulong length)
    {
        ulong largest = type switch
        {
            NbdCommandType.Read => (ulong)MaximumReadBytes,
            NbdCommandType.Write => _keepsBlockSizes ? (ulong)Export.MaximumPayloadBytes : uint.MaxValue,
            NbdCommandType.Flush => 0,
            _ => Export.ExtendedHeaders ? ulong.MaxValue : uint.MaxValue,
        };
        ulong block = _keepsBlockSizes ? (ulong)Export.MinimumBlockBytes : 1;
        return ((offset | length) & (block - 1)) == 0 && length <= largest
            && (length > 0 || largest == 0);
    }

    private Errno FlushAndWait(Deadline deadline)
    {
        SpinWait.SpinUntil(() => ChangesInFlight == 0, deadline.RemainingMilliseconds);
        if (!Export.CanFlush)
        {
            return Errno.None;
        }

        WaitingCompletion waiting = new();
        Errno error = Flush(waiting);
        return error == Errno.None ? waiting.Wait(deadline) : error;
    }

    private void OnEnded(NbdConnection connection, NbdException? reason)
    {
        if (reason is not null)
        {
            if (IsDirty)
            {
                Volatile.Write(ref _lostChanges, 1);
            }

            ConnectionLost?.Invoke(reason);
        }
    }

    /// <summary>Lets one thread wait for one command.</summary>
    private sealed class WaitingCompletion : NbdCompletion
    {
        private readonly TaskCompletionSource<Errno> _outcome = new();

        internal Errno Wait(Deadline deadline) =>
            _outcome.Task.Wait(deadline.RemainingMilliseconds) ? _outcome.Task.Result : Errno.ETIMEDOUT;

        protected internal override void OnCompleted(Errno outcome, byte* data) => _outcome.SetResult(outcome);
    }
}
