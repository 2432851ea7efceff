using Linux;
using Nbd.Protocol;
using Tmds.Linux;

namespace Nbd;

/// <content>Sending: at once on the caller's thread, or through the queue when the server does not read.</content>
internal sealed unsafe partial class NbdConnection
{
    private readonly AutoResetEvent _queueFilled = new(false);
    private CommandSlot? _queueHead;
    private CommandSlot? _queueTail;
    private Thread? _sender;

    private enum SendOutcome
    {
        Whole,
        Part,
        Broken,
    }

    private void SendLocked(CommandSlot slot)
    {
        if (_queueHead is not null || _isBatchStuck)
        {
            EnqueueLocked(slot);
        }
        else if (SendOrKeepLocked(slot, mayWait: true) == SendOutcome.Part)
        {
            EnqueueLocked(slot);
        }
    }

    /// <summary>
    /// Sends what the socket takes. A broken socket is left to the receive thread, which completes the command.
    /// </summary>
    private SendOutcome TrySend(CommandSlot slot, bool mayWait)
    {
        bool isFiltered = _filtersContexts && slot.ContextsWanted != 0;
        byte* header = stackalloc byte[isFiltered ? MaximumFilteredStatusBytes : NbdRequest.ExtendedSizeBytes];
        NbdCommandFlags flags = _extendedHeaders && slot.Payload is not null
            ? slot.Flags | NbdCommandFlags.PayloadLength
            : slot.Flags;
        int headerBytes = isFiltered
            ? EncodeFilteredStatus(header, slot)
            : EncodeHeader(header, slot.Type, flags, slot.Cookie, slot.Offset, slot.Length);
        int sent = slot.QueuedBytesSent;
        int total = headerBytes + slot.PayloadBytes;
        if (mayWait && _batch is not null && (!_batch.IsEmpty || IsGatheringLocked))
        {
            if (SendBatch.Takes(slot))
            {
                return GatherLocked(header, headerBytes, slot);
            }

            if (TrySendBatchLocked(mayWait: true) is not SendOutcome.Whole and SendOutcome outcome)
            {
                return outcome;
            }
        }

        iovec* parts = stackalloc iovec[2];
        int headerLeft = Math.Max(0, headerBytes - sent);
        int payloadSent = Math.Max(0, sent - headerBytes);
        parts[0].iov_base = header + headerBytes - headerLeft;
        parts[0].iov_len = headerLeft;
        parts[1].iov_base = slot.Payload + payloadSent;
        parts[1].iov_len = slot.PayloadBytes - payloadSent;
        Errno errno = slot.PayloadMemory is SharedMemory memory
            ? _transport.SendShared(parts, memory, slot.PayloadMemoryOffset + payloadSent, out int count)
            : _transport.Send(parts, slot.Payload is null ? 1 : 2, mayWait, out count);
        if (errno != Errno.None)
        {
            FailToSend(errno);
            return SendOutcome.Broken;
        }

        if (count == total - sent)
        {
            // The slot may be answered and reused already: not ours any more.
            return SendOutcome.Whole;
        }

        slot.QueuedBytesSent = sent + count;
        return SendOutcome.Part;
    }

    private void FailToSend(Errno errno) =>
        Fail(new NbdException($"send to {_peer}: {_transport.Describe(errno)}", Errno.EIO));

    /// <returns>Bytes of it.</returns>
    private int EncodeHeader(
        byte* header, NbdCommandType type, NbdCommandFlags flags, ulong cookie, ulong offset, ulong length)
    {
        Span<byte> wire = new(header, NbdRequest.ExtendedSizeBytes);
        if (_extendedHeaders)
        {
            NbdRequest.EncodeExtended(wire, type, flags, cookie, offset, length);
            return NbdRequest.ExtendedSizeBytes;
        }

        NbdRequest.Encode(wire, type, flags, cookie, offset, (uint)length);
        return NbdRequest.SizeBytes;
    }

    private void EnqueueLocked(CommandSlot slot)
    {
        if (!slot.TryMove(slot.StateToSend, SlotState.Queued))
        {
            Fail(Violation("answered a command before it was sent"));
            return;
        }

        if (_queueTail is null)
        {
            _queueHead = slot;
        }
        else
        {
            _queueTail.NextQueued = slot;
        }

        _queueTail = slot;
        WakeSenderLocked();
    }

    private void WakeSenderLocked()
    {
        if (_sender is null)
        {
            _sender = new Thread(SendQueue) { Name = "nbd-tx", IsBackground = true };
            _sender.Start();
        }

        _queueFilled.Set();
    }

    /// <summary>The thread nbd-tx: sends the queue whenever the socket has room.</summary>
    private void SendQueue()
    {
        ThreadProcessors.Release();
        while (true)
        {
            _queueFilled.WaitOne();
            for (bool isPart = true; isPart;)
            {
                lock (_sendGate)
                {
                    if (_status == Status.Dead)
                    {
                        return;
                    }

                    isPart = TrySendQueueLocked() == SendOutcome.Part;
                }

                CompleteEarly();
                if (isPart)
                {
                    _transport.WaitForRoom();
                }
            }
        }
    }

    private SendOutcome TrySendQueueLocked()
    {
        if (TrySendBatchLocked(mayWait: false) is not SendOutcome.Whole and SendOutcome outcome)
        {
            return outcome;
        }

        while (_queueHead is CommandSlot slot)
        {
            // Before the last byte goes out: the reply may be here before sendmsg(2) returns.
            CommandSlot? next = slot.NextQueued;
            if (!slot.TryMove(SlotState.Queued, slot.StateToSend))
            {
                return SendOutcome.Broken;
            }

            switch (SendOrKeepLocked(slot, mayWait: false))
            {
                case SendOutcome.Whole:
                    _queueHead = next;
                    _queueTail = next is null ? null : _queueTail;
                    break;
                case SendOutcome.Part:
                    if (slot.TryMove(slot.StateToSend, SlotState.Queued))
                    {
                        return SendOutcome.Part;
                    }

                    Fail(Violation("answered a command before it was sent"));
                    return SendOutcome.Broken;
                default:
                    return SendOutcome.Broken;
            }
        }

        return SendOutcome.Whole;
    }

    private void SendDisconnectLocked()
    {
        // Nothing is in flight: only a server that answers what it did not get leaves a rest of the batch.
        _ = TrySendBatchLocked(mayWait: true);
        byte* header = stackalloc byte[NbdRequest.ExtendedSizeBytes];
        int bytes = EncodeHeader(header, NbdCommandType.Disconnect, NbdCommandFlags.None, 0, 0, 0);
        iovec part = new() { iov_base = header, iov_len = bytes };
        _ = _transport.Send(&part, 1, mayWait: true, out _);
        _transport.EndSending();
    }

    private void ClearQueueLocked()
    {
        _queueHead = _queueTail = null;
        ClearBatchLocked();
    }

    private void StopSender()
    {
        _queueFilled.Set();
        _sender?.Join();
    }
}
