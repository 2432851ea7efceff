using Linux;
using Tmds.Linux;

namespace Nbd;

/// <content>
/// Gathering: commands that one thread submits for several replies go out with one sendmsg(2). Nothing waits for more to
/// come: only who is sure to send soon gathers. The receive thread sends before it waits for bytes; a thread of the pool
/// gathers as long as another work item is queued, which begins with sending (<see cref="AnsweredCommands"/>).
/// </content>
internal sealed unsafe partial class NbdConnection
{
    private readonly AnsweredCommands _answered;

    // Null where the transport gathers.
    private readonly SendBatch? _batch;

    // The socket did not take all of the batch: nbd-tx sends it before the queue.
    private bool _isBatchStuck;

    /// <summary>
    /// Has the caller of a command that was answered go on, together with the others of this receive thread.
    /// </summary>
    /// <returns>False when this is not a receive thread.</returns>
    internal static bool TryHandOn(IAwaitedCommand command)
    {
        if (OfThisThread is not { } own)
        {
            return false;
        }

        own._answered.Add(command);
        return true;
    }

    /// <inheritdoc cref="NbdConnectionPool.StaysOnReceiveThreads"/>
    internal bool StaysOnReceiveThread
    {
        set => _answered.StaysOnReceiveThread = value;
    }

    /// <summary>Sends what was gathered.</summary>
    internal void SendGathered()
    {
        if (_batch is not null)
        {
            lock (_sendGate)
            {
                _ = TrySendBatchLocked(mayWait: true);
            }
        }
    }

    /// <summary>
    /// The receive thread has used up what it received. When there may be more it goes on as long as less than half of the
    /// commands in flight wait for it to send or to hand on: the server has the others.
    /// </summary>
    private void BeforeReceive(bool mayWait)
    {
        if (!mayWait && 2 * Math.Max(_batch?.Commands ?? 0, _answered.New) < InFlight)
        {
            return;
        }

        // Those who go on here may gather.
        _answered.HandOn();

        // What this thread gathered it sees without the lock; others see to theirs.
        if (_batch?.IsEmpty == false)
        {
            SendGathered();
        }
    }

    /// <summary>Whether this thread, or another, is sure to send soon. Under the send lock.</summary>
    private bool IsGatheringLocked =>
        OfThisThread == this || (AnsweredCommands.OfThisThread == this && _answered.IsRequested);

    /// <summary>Puts a command into the batch, and sends that unless more may come.</summary>
    /// <returns>Whole: taken, whether it was sent or not. Part: it has to wait behind the batch. Broken: not needed.</returns>
    private SendOutcome GatherLocked(byte* header, int headerBytes, CommandSlot slot)
    {
        int total = headerBytes + slot.PayloadBytes;
        if (!_batch!.HasRoom(total) && TrySendBatchLocked(mayWait: true) is not SendOutcome.Whole and SendOutcome outcome)
        {
            return outcome;
        }

        _batch.Add(header, headerBytes, slot.Payload, slot.PayloadBytes);
        return IsGatheringLocked || TrySendBatchLocked(mayWait: true) != SendOutcome.Broken
            ? SendOutcome.Whole
            : SendOutcome.Broken;
    }

    private SendOutcome TrySendBatchLocked(bool mayWait)
    {
        if (_batch is null || _batch.IsEmpty || (_isBatchStuck && mayWait))
        {
            return _isBatchStuck ? SendOutcome.Part : SendOutcome.Whole;
        }

        iovec rest = _batch.Rest;
        Errno errno = _transport.Send(&rest, 1, mayWait, out int sent);
        if (errno != Errno.None)
        {
            ClearBatchLocked();
            FailToSend(errno);
            return SendOutcome.Broken;
        }

        _batch.Consume(sent);
        _isBatchStuck = !_batch.IsEmpty;
        if (!_isBatchStuck)
        {
            return SendOutcome.Whole;
        }

        WakeSenderLocked();
        return SendOutcome.Part;
    }

    private void ClearBatchLocked()
    {
        _batch?.Clear();
        _isBatchStuck = false;
    }
}
