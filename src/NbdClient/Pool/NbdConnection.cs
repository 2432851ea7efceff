using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// One socket to an NBD server in the transmission phase, with many commands in flight.
/// <para>
/// Threads: any thread may send; its command goes out on that thread, under the send lock. One receive thread
/// (nbd-rx) reads the replies and calls the completions. When the socket takes a command only in part, because the
/// server does not read, the rest is left to a third thread (nbd-tx), so that no sender is ever held up for long.
/// </para>
/// <para>
/// End: <see cref="Fail"/> notes the first reason and shuts the socket down. That wakes the receive thread, which
/// alone ends the connection: no command is accepted any more, all that are in flight complete with EIO, the
/// socket is closed.
/// </para>
/// </summary>
internal sealed unsafe partial class NbdConnection : IDisposable
{
    /// <summary>Largest READ of one command, in bytes: the receive buffer holds one whole.</summary>
    internal const int MaximumReadBytes = 1024 * 1024;

    // Below, referring to pages costs more than copying them.
    private const ulong SmallestSharedBytes = 64 << 10;

    // The reason that stands for "we asked for it".
    private static readonly NbdException s_closedByUs = new("closed by us", Errno.ECANCELED);

    private readonly ConnectionTransport _transport;
    private readonly string _peer;
    private readonly bool _structuredReplies;
    private readonly bool _extendedHeaders;
    private readonly uint _chunkMagic;
    private readonly int _headerBytes;
    private readonly uint[] _contextIds;
    private readonly bool _filtersContexts;
    private readonly Action<NbdConnection, NbdException?> _ended;
    private readonly CommandSlotTable _slots = new();
    private readonly ManualResetEventSlim _hasEnded = new();

    // Guards sending on the socket, _status, the queue of unsent commands, and taking slots. The one thing that
    // blocks under it is the send itself, for at most ConnectionTransport.SendPatienceMilliseconds.
    private readonly Lock _sendGate = new();
    private Status _status = Status.Active;

    private NbdException? _failure;
    private bool _isDisposed;

    // No command is accepted any more, and DISC goes out after the last reply. Set under the send lock, read by the
    // receive thread after each reply.
    private volatile bool _leavesWhenIdle;

    /// <param name="transport">The connection after the handshake. Taken over.</param>
    /// <param name="negotiated">What the handshake agreed on.</param>
    /// <param name="peer">Names the server in messages.</param>
    /// <param name="ended">
    /// Called once, on the receive thread, after the last completion: with the reason, or null when we had asked
    /// for the end.
    /// </param>
    internal NbdConnection(
        ConnectionTransport transport,
        NegotiatedConnection negotiated,
        string peer,
        Action<NbdConnection, NbdException?> ended)
    {
        _transport = transport;
        _peer = peer;
        _structuredReplies = negotiated.Export.StructuredReplies;
        _extendedHeaders = negotiated.Export.ExtendedHeaders;
        _chunkMagic = _extendedHeaders ? NbdMagic.ExtendedReply : NbdMagic.StructuredReply;
        _headerBytes = _extendedHeaders ? NbdChunkHeader.ExtendedSizeBytes : NbdChunkHeader.SizeBytes;
        _contextIds = negotiated.ContextIds;
        _filtersContexts = negotiated.Export.CanFilterMetaContexts;
        _ended = ended;
        _answered = new AnsweredCommands(this);
        _batch = transport.GathersSends ? null : new SendBatch();
    }

    /// <summary>A connection's lifetime. It only falls.</summary>
    private enum Status
    {
        /// <summary>Takes commands.</summary>
        Active,

        /// <summary>Takes none; some are not answered yet.</summary>
        Leaving,

        /// <summary>DISC was sent.</summary>
        Left,

        /// <summary>Ended: nobody may use the socket.</summary>
        Dead,
    }

    /// <summary>Commands that were sent and not answered yet.</summary>
    internal int InFlight => _slots.InFlight;

    /// <summary>Of those, the ones that may change data.</summary>
    internal int ChangesInFlight => _slots.ChangesInFlight;

    /// <summary>The connection whose replies this thread receives; null on other threads.</summary>
    [field: ThreadStatic]
    internal static NbdConnection? OfThisThread { get; private set; }

    /// <summary>Which connection of its pool it is.</summary>
    internal int Index { get; init; }

    /// <summary>Called on the receive thread when a FLUSH failed, before its completion.</summary>
    internal Action? FlushFailed { get; init; }

    /// <summary>Called on the receive thread with what the server said about a command that it failed.</summary>
    internal Action<NbdServerError>? ServerError { get; init; }

    /// <summary>Starts to receive. To be called once, before the first command.</summary>
    internal void Start() => _transport.Start(Receive);

    /// <summary>Sends a command.</summary>
    /// <param name="type">Any command but DISC.</param>
    /// <param name="flags">Flags that the export has.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes; a READ at most <see cref="MaximumReadBytes"/>.</param>
    /// <param name="memory">
    /// A WRITE's data, which must stay as it is until the completion; or where a READ's data goes, which is the
    /// connection's until the completion; null for all others, and for a READ that may leave its data anywhere.
    /// </param>
    /// <param name="completion">Told the outcome, if the command was accepted.</param>
    /// <returns>
    /// None: accepted, <paramref name="completion"/> will be called once. ENOTCONN: the connection has ended.
    /// ENOMEM: too many commands in flight. In both cases it will not be called.
    /// </returns>
    internal Errno Submit(
        NbdCommandType type,
        NbdCommandFlags flags,
        ulong offset,
        ulong length,
        byte* memory,
        NbdCompletion completion)
    {
        lock (_sendGate)
        {
            if (_status != Status.Active)
            {
                return Errno.ENOTCONN;
            }

            CommandSlot? slot = _slots.Take();
            if (slot is null)
            {
                return Errno.ENOMEM;
            }

            // Published before the first byte goes out: the reply may be here before sendmsg(2) returns.
            slot.Fill(type, flags, offset, length, memory, completion);
            if (type == NbdCommandType.Write && length >= SmallestSharedBytes && _transport.SendsShared)
            {
                slot.SharePayload();
            }

            _slots.NoteSent(slot);
            SendLocked(slot);
        }

        CompleteEarly();
        return Errno.None;
    }

    /// <summary>
    /// Ends the connection for a reason. Only the first reason counts. Returns at once; the receive thread
    /// completes what is in flight with EIO.
    /// </summary>
    internal void Fail(NbdException reason)
    {
        _ = Interlocked.CompareExchange(ref _failure, reason, null);
        _transport.Shutdown();
    }

    /// <summary>
    /// Leaves politely: accepts no more commands, sends DISC after the last reply, and waits until the server closed
    /// its end. What is not over before <paramref name="deadline"/> is cut.
    /// </summary>
    internal void Close(Deadline deadline)
    {
        _ = Interlocked.CompareExchange(ref _failure, s_closedByUs, null);
        LeaveWhenIdle();
        if (!_hasEnded.Wait(deadline.RemainingMilliseconds))
        {
            Fail(s_closedByUs);
            _hasEnded.Wait();
        }
    }

    /// <summary>Cuts the connection if it has not ended, and waits until it has.</summary>
    public void Dispose()
    {
        if (_isDisposed)
        {
            return;
        }

        _isDisposed = true;
        Close(default);
        _transport.Join();
        _transport.Dispose();
        _hasEnded.Dispose();
        _queueFilled.Dispose();
        _received?.Dispose();
        _zeroes?.Dispose();
        _batch?.Dispose();
        while (_idleAssemblies.TryPop(out ReadAssembly? assembly))
        {
            assembly.Dispose();
        }
    }

    private void Complete(CommandSlot slot, Errno error, byte* data)
    {
        if (TryAnswer(slot, error))
        {
            Finish(slot, error, data);
        }
    }

    private void Finish(CommandSlot slot, Errno error, byte* data)
    {
        NbdCompletion completion = slot.Completion!;
        ReadAssembly? assembly = slot.Assembly;
        if (slot.Type == NbdCommandType.Flush && error != Errno.None)
        {
            FlushFailed?.Invoke();
        }

        if (error == Errno.ESHUTDOWN)
        {
            LeaveForShutdown();
        }

        _slots.Free(slot);
        completion.OnCompleted(error, data);
        if (assembly is not null)
        {
            ReturnAssembly(assembly);
        }

        if (_leavesWhenIdle)
        {
            LeaveWhenIdle();
        }
    }

    /// <summary>We have to leave (proto.md, "Error values").</summary>
    private void LeaveForShutdown()
    {
        NbdException reason = new($"{_peer}: the server is shutting down", Errno.ESHUTDOWN);
        _ = Interlocked.CompareExchange(ref _failure, reason, null);
        LeaveWhenIdle();
    }

    private void LeaveWhenIdle()
    {
        lock (_sendGate)
        {
            if (_status == Status.Active)
            {
                _status = Status.Leaving;
                _leavesWhenIdle = true;
            }

            if (_status == Status.Leaving && InFlight == 0)
            {
                _status = Status.Left;
                SendDisconnectLocked();
            }
        }
    }

    /// <summary>The last thing that the receive thread does.</summary>
    private void End()
    {
        lock (_sendGate)
        {
            _status = Status.Dead;
            ClearQueueLocked();
        }

        StopSender();
        CompleteEarly();
        foreach (CommandSlot slot in _slots.All)
        {
            if (slot.State != SlotState.Free)
            {
                slot.LeavePayload();
                Finish(slot, Errno.EIO, null);
            }
        }

        // Nobody sends any more: all senders look at _status first.
        _transport.Dispose();
        _ended(this, ReferenceEquals(_failure, s_closedByUs) ? null : _failure);
        _hasEnded.Set();
    }
}
