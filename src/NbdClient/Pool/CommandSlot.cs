using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>Where a command is on its way. Sender and receiver move it with compare-and-swap.</summary>
internal enum SlotState
{
    /// <summary>In the free list.</summary>
    Free,

    /// <summary>Whole on the wire, or, if it has no payload, about to be: a reply may come.</summary>
    Sent,

    /// <summary>
    /// Its payload is being sent: a reply may come, because sendmsg(2) may not have returned yet when the server has it all,
    /// but the command must not complete, because sendmsg(2) may still read the payload.
    /// </summary>
    Sending,

    /// <summary>Its reply came while it was being sent: the sender completes it, with <see cref="CommandSlot.Error"/>.</summary>
    AnsweredEarly,

    /// <summary>Only partly sent, or not at all: a reply now is a protocol violation.</summary>
    Queued,

    /// <summary>Its completion is being called.</summary>
    Answered,
}

/// <summary>
/// One command in flight. Its index and generation are the cookie, so that a late or invented cookie is found out.
/// The sender fills it under the send lock before the first byte goes out; from then on the receive thread owns it
/// until it is freed, except for <see cref="NextQueued"/> and <see cref="QueuedBytesSent"/>, which the send lock
/// guards, and for a command that was answered early, which is the sender's again.
/// </summary>
internal sealed unsafe class CommandSlot(int index)
{
    private int _state;

    internal int Index { get; } = index;

    internal uint Generation { get; private set; }

    internal NbdCommandType Type { get; private set; }

    /// <summary>Whether the command may change data.</summary>
    internal bool IsChange { get; private set; }

    internal NbdCommandFlags Flags { get; private set; }

    internal ulong Offset { get; private set; }

    internal ulong Length { get; private set; }

    /// <summary>A WRITE's data, which its owner keeps until the completion; null for all others.</summary>
    internal byte* Payload { get; private set; }

    /// <summary>The memory whose pages the socket may refer to for <see cref="Payload"/>; null if it has to copy.</summary>
    internal SharedMemory? PayloadMemory { get; private set; }

    /// <summary>Where in it the payload starts.</summary>
    internal long PayloadMemoryOffset { get; private set; }

    /// <summary>
    /// Where a READ's data goes, which is ours until the completion; null for all others, and for a READ whose data
    /// may stay where it is received.
    /// </summary>
    internal byte* Destination { get; private set; }

    internal NbdCompletion? Completion { get; private set; }

    /// <summary>The first error that a chunk of the reply reported.</summary>
    internal Errno Error { get; set; }

    /// <summary>Chunks of the reply that reported an error.</summary>
    internal int ErrorChunks { get; set; }

    /// <summary>The meta contexts that a BLOCK_STATUS wants, a bit for each; 0 for all.</summary>
    internal ulong ContextsWanted { get; private set; }

    /// <summary>The meta contexts that the reply had so far, a bit for each.</summary>
    internal ulong ContextsSeen { get; set; }

    /// <summary>Gathers a READ that is answered in several chunks; null as long as none came.</summary>
    internal ReadAssembly? Assembly { get; set; }

    /// <summary>Next in the free list; -1 ends it.</summary>
    internal int NextFree { get; set; } = -1;

    /// <summary>Next in the queue of commands that the socket did not take at once, or of those answered early.</summary>
    internal CommandSlot? NextQueued { get; set; }

    /// <summary>Bytes of header and payload that the socket took.</summary>
    internal int QueuedBytesSent { get; set; }

    /// <summary>The state from the moment on when bytes may go out.</summary>
    internal SlotState StateToSend => Payload is null ? SlotState.Sent : SlotState.Sending;

    internal ulong Cookie => ((ulong)Generation << 32) | (uint)Index;

    internal SlotState State => (SlotState)Volatile.Read(ref _state);

    /// <summary>What follows the header on the wire, in bytes.</summary>
    internal int PayloadBytes => Payload is null ? 0 : (int)Length;

    internal void Fill(
        NbdCommandType type, NbdCommandFlags flags, ulong offset, ulong length, byte* memory, NbdCompletion completion)
    {
        Generation++;
        Type = type;
        IsChange = type is NbdCommandType.Write or NbdCommandType.WriteZeroes or NbdCommandType.Trim;
        Flags = flags;
        Offset = offset;
        Length = length;
        Payload = type == NbdCommandType.Write ? memory : null;
        Destination = type == NbdCommandType.Read ? memory : null;
        Completion = completion;
        Error = Errno.None;
        ErrorChunks = 0;
        ContextsWanted = type == NbdCommandType.BlockStatus ? ((NbdBlockStatusCompletion)completion).Contexts : 0;
        ContextsSeen = 0;
        QueuedBytesSent = 0;
        Volatile.Write(ref _state, (int)StateToSend);
    }

    /// <summary>Lets the socket refer to the payload, if it lies in shared memory. Before the first byte goes out.</summary>
    internal void SharePayload()
    {
        PayloadMemory = Completion!.MemoryOf(Payload, out long offset);
        PayloadMemoryOffset = offset;
    }

    /// <summary>
    /// The command ended without an answer: its memory is used again soon, but the server may still read what was sent.
    /// </summary>
    internal void LeavePayload() => PayloadMemory?.Replace(PayloadMemoryOffset, PayloadBytes);

    internal bool TryMove(SlotState from, SlotState to) =>
        Interlocked.CompareExchange(ref _state, (int)to, (int)from) == (int)from;

    /// <summary>Forgets the command, so that the slot holds on to nobody's memory.</summary>
    internal void Clear()
    {
        Payload = Destination = null;
        PayloadMemory = null;
        Completion = null;
        Assembly = null;
        NextQueued = null;
        Volatile.Write(ref _state, (int)SlotState.Free);
    }
}
