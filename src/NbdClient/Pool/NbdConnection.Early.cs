using Linux;

namespace Nbd;

/// <content>
/// WRITEs whose reply came before they were sent: sendmsg(2) may still read the payload, so the receive thread leaves the
/// completion to the sender. With a quick server that is common (the sender is just about to return from sendmsg(2)), so
/// that the receive thread must not wait for it; a hostile one would get what the caller puts into its memory next.
/// </content>
internal sealed unsafe partial class NbdConnection : IThreadPoolWorkItem
{
    // Guarded by the send lock.
    private CommandSlot? _early;

    /// <summary>Whether this thread is calling completions of commands that were answered early.</summary>
    [ThreadStatic]
    private static bool s_completesEarly;

    /// <summary>The receive thread has the outcome of a command.</summary>
    /// <returns>False when the command is being sent: then the sender will complete it.</returns>
    private bool TryAnswer(CommandSlot slot, Errno error)
    {
        if (slot.TryMove(SlotState.Sent, SlotState.Answered))
        {
            return true;
        }

        slot.Error = error;
        if (slot.TryMove(SlotState.Sending, SlotState.AnsweredEarly))
        {
            return false;
        }

        // A sender that finds a part of the command unsent after this gives up (EnqueueLocked).
        return slot.TryMove(SlotState.Sent, SlotState.Answered)
            ? true
            : throw Violation("answered a command before it was sent");
    }

    /// <summary>Sends what the socket takes, and keeps the command if it was answered meanwhile.</summary>
    private SendOutcome SendOrKeepLocked(CommandSlot slot, bool mayWait)
    {
        // Without a payload the slot may be answered and reused already when it was sent.
        bool hasPayload = slot.Payload is not null;
        SendOutcome outcome = TrySend(slot, mayWait);
        if (outcome == SendOutcome.Whole && hasPayload && !slot.TryMove(SlotState.Sending, SlotState.Sent))
        {
            slot.NextQueued = _early;
            _early = slot;
        }

        return outcome;
    }

    /// <summary>Completes what was kept. Without the send lock, by whoever has held it.</summary>
    private void CompleteEarly()
    {
        if (Volatile.Read(ref _early) is null)
        {
            return;
        }

        if (s_completesEarly)
        {
            // A completion sent the next command: not one within the other without end.
            _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
            return;
        }

        s_completesEarly = true;
        while (TakeEarly(out Errno error) is NbdCompletion completion)
        {
            if (error == Errno.ESHUTDOWN)
            {
                LeaveForShutdown();
            }

            completion.OnCompleted(error, null);
            if (_leavesWhenIdle)
            {
                LeaveWhenIdle();
            }
        }

        s_completesEarly = false;
    }

    void IThreadPoolWorkItem.Execute()
    {
        ThreadProcessors.Release();
        CompleteEarly();
    }

    private NbdCompletion? TakeEarly(out Errno error)
    {
        lock (_sendGate)
        {
            error = Errno.None;
            if (_early is not { } slot)
            {
                return null;
            }

            _early = slot.NextQueued;
            NbdCompletion completion = slot.Completion!;
            error = slot.Error;
            _slots.TakeBack(slot);
            return completion;
        }
    }
}
