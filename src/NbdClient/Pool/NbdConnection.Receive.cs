using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>
/// Receiving: one reply after the other, each checked in full before it is believed. What breaks a rule of
/// proto.md, "Transmission", ends the connection: after it, no byte can be trusted to be where it seems.
/// </content>
internal sealed unsafe partial class NbdConnection
{
    private const int LargestHeaderBytes = NbdChunkHeader.ExtendedSizeBytes + sizeof(ulong);

    // Assemblies kept for the next fragmented READ.
    private const int MaximumIdleAssemblies = 16;

    private readonly Stack<ReadAssembly> _idleAssemblies = new();
    private ReceiveBuffer? _received;
    private NativeBuffer? _zeroes;

    /// <summary>The thread nbd-rx.</summary>
    private void Receive()
    {
        OfThisThread = this;
        try
        {
            int headerBytes = _structuredReplies ? _headerBytes + sizeof(ulong) : NbdSimpleReply.SizeBytes;
            _received = new ReceiveBuffer(
                _transport, _peer, LargestHeaderBytes + MaximumReadBytes, headerBytes, BeforeReceive);
            while (ReceiveReply())
            {
            }

            Fail(new NbdException($"{_peer}: the server closed the connection", Errno.EIO));
        }
        catch (NbdException exception)
        {
            Fail(exception);
        }
        catch (LinuxException exception)
        {
            Fail(new NbdException($"{_peer}: {exception.Message}", exception.Errno, exception));
        }

        // A ring's thread lives on.
        OfThisThread = null;
        _answered.HandOn();
        End();
    }

    /// <returns>False when the server closed the connection between two replies.</returns>
    private bool ReceiveReply()
    {
        ReceiveBuffer received = _received!;
        if (!received.TryFill(NbdSimpleReply.SizeBytes))
        {
            return received.Available == 0 ? false : throw Truncated();
        }

        uint magic = BinaryPrimitives.ReadUInt32BigEndian(Peek(sizeof(uint)));
        if (magic == NbdMagic.SimpleReply && !_extendedHeaders)
        {
            ReceiveSimpleReply();
        }
        else if (magic == _chunkMagic && _structuredReplies)
        {
            ReceiveChunk();
        }
        else
        {
            throw Violation($"sent a reply that starts with 0x{magic:x8}");
        }

        return true;
    }

    private void ReceiveSimpleReply()
    {
        ReceiveBuffer received = _received!;
        NbdSimpleReply reply = NbdSimpleReply.Decode(Peek(NbdSimpleReply.SizeBytes));
        CommandSlot slot = FindSlot(reply.Cookie);
        Errno error = NbdError.ToErrno(reply.Error);
        if (slot.Type != NbdCommandType.Read || error != Errno.None)
        {
            received.Consume(NbdSimpleReply.SizeBytes);
            Complete(slot, error, null);
            return;
        }

        if (_structuredReplies)
        {
            throw Violation("answered a READ with a simple reply after it had agreed to structured ones");
        }

        if (slot.Destination is not null)
        {
            received.Consume(NbdSimpleReply.SizeBytes);
            ReceiveToDestination(slot);
            return;
        }

        int size = NbdSimpleReply.SizeBytes + (int)slot.Length;
        Need(size);
        byte* data = received.Start + NbdSimpleReply.SizeBytes;
        received.Consume(size);
        Complete(slot, Errno.None, data);
    }

    private void ReceiveChunk()
    {
        Need(_headerBytes);
        NbdChunkHeader chunk = DecodeHeader(out CommandSlot slot);
        if (chunk.IsError)
        {
            ReceiveErrorChunk(slot, chunk);
        }
        else
        {
            switch (chunk.Type)
            {
                case NbdChunkType.None when chunk.Length == 0 && chunk.IsDone:
                    _received!.Consume(_headerBytes);
                    break;
                case NbdChunkType.OffsetData when slot.Type == NbdCommandType.Read:
                    if (ReceiveDataChunk(slot, chunk))
                    {
                        return;
                    }

                    break;
                case NbdChunkType.OffsetHole when slot.Type == NbdCommandType.Read:
                    if (ReceiveHoleChunk(slot, chunk))
                    {
                        return;
                    }

                    break;
                case NbdChunkType.BlockStatus when slot.Type == NbdCommandType.BlockStatus && !_extendedHeaders:
                case NbdChunkType.BlockStatusExtended when slot.Type == NbdCommandType.BlockStatus && _extendedHeaders:
                    ReceiveStatusChunk(slot, chunk);
                    break;
                default:
                    throw Violation(
                        $"answered {slot.Type} with a chunk of type {(ushort)chunk.Type} and {chunk.Length} bytes");
            }
        }

        if (chunk.IsDone)
        {
            CompleteChunked(slot);
        }
    }

    /// <summary>The header of the chunk, which is not consumed, and the command that it belongs to.</summary>
    private NbdChunkHeader DecodeHeader(out CommandSlot slot)
    {
        if (!_extendedHeaders)
        {
            NbdChunkHeader compact = NbdChunkHeader.Decode(Peek(NbdChunkHeader.SizeBytes));
            slot = FindSlot(compact.Cookie);
            return compact;
        }

        NbdChunkHeader chunk = NbdChunkHeader.DecodeExtended(
            Peek(NbdChunkHeader.ExtendedSizeBytes), out ulong offset);
        slot = FindSlot(chunk.Cookie);
        return offset == slot.Offset
            ? chunk
            : throw Violation($"answered {slot.Type} at {slot.Offset} with a reply for offset {offset}");
    }

    /// <returns>True when the chunk was the whole reply and the command is complete.</returns>
    private bool ReceiveDataChunk(CommandSlot slot, NbdChunkHeader chunk)
    {
        ReceiveBuffer received = _received!;
        if (chunk.Length <= sizeof(ulong) || chunk.Length - sizeof(ulong) > slot.Length)
        {
            throw Violation($"answered a READ of {slot.Length} bytes with a data chunk of {chunk.Length} bytes");
        }

        int length = (int)chunk.Length - sizeof(ulong);
        int headerBytes = _headerBytes + sizeof(ulong);
        Need(headerBytes);
        uint start = CheckRange(slot, ChunkOffset(), (uint)length);
        if (chunk.IsDone && length == (int)slot.Length && slot.Assembly is null && slot.Error == Errno.None)
        {
            if (slot.Destination is not null)
            {
                received.Consume(headerBytes);
                ReceiveToDestination(slot);
                return true;
            }

            Need(headerBytes + length);
            byte* data = received.Start + headerBytes;
            received.Consume(headerBytes + length);
            Complete(slot, Errno.None, data);
            return true;
        }

        received.Consume(headerBytes);
        ReadAssembly assembly = Cover(slot, start, (uint)length);
        return received.TryReceiveInto(assembly.Data + start, length) ? false : throw Truncated();
    }

    /// <returns>True when the chunk was the whole reply and the command is complete.</returns>
    private bool ReceiveHoleChunk(CommandSlot slot, NbdChunkHeader chunk)
    {
        const int HoleBytes = sizeof(ulong) + sizeof(uint);
        if (chunk.Length != HoleBytes)
        {
            throw Violation($"sent a hole chunk of {chunk.Length} bytes instead of {HoleBytes}");
        }

        int size = _headerBytes + HoleBytes;
        Need(size);
        uint length = BinaryPrimitives.ReadUInt32BigEndian(Peek(size)[(_headerBytes + sizeof(ulong))..]);
        uint start = CheckRange(slot, ChunkOffset(), length);
        _received!.Consume(size);
        if (chunk.IsDone && length == slot.Length && slot.Assembly is null && slot.Error == Errno.None)
        {
            Complete(slot, Errno.None, ZeroesFor(slot));
            return true;
        }

        ReadAssembly assembly = Cover(slot, start, length);
        NativeMemory.Clear(assembly.Data + start, length);
        return false;
    }

    /// <summary>All of a READ's data comes next, and the reply ends with it.</summary>
    private void ReceiveToDestination(CommandSlot slot)
    {
        if (!_received!.TryReceiveInto(slot.Destination, (int)slot.Length))
        {
            throw Truncated();
        }

        Complete(slot, Errno.None, slot.Destination);
    }

    /// <summary>The reply ended with a chunk that was not all of it.</summary>
    private void CompleteChunked(CommandSlot slot)
    {
        if (slot.Error == Errno.None && slot.Type == NbdCommandType.BlockStatus)
        {
            CheckAllContexts(slot);
        }

        if (slot.Error != Errno.None || slot.Type != NbdCommandType.Read)
        {
            Complete(slot, slot.Error, null);
            return;
        }

        if (slot.Assembly is null || !slot.Assembly.IsComplete((uint)slot.Length))
        {
            throw Violation($"answered a READ of {slot.Length} bytes at {slot.Offset} without all of them");
        }

        Complete(slot, Errno.None, slot.Assembly.Data);
    }

    private CommandSlot FindSlot(ulong cookie)
    {
        CommandSlot slot = _slots.Find(cookie)
            ?? throw Violation($"answered a command that is not in flight (cookie 0x{cookie:x16})");
        return slot.State is SlotState.Sent or SlotState.Sending ? slot : throw Violation("answered a command before it was sent");
    }

    /// <summary>Where a chunk lies inside its READ.</summary>
    private uint CheckRange(CommandSlot slot, ulong offset, uint length)
    {
        ulong start = offset - slot.Offset;
        return offset >= slot.Offset && length > 0 && length <= slot.Length && start <= slot.Length - length
            ? (uint)start
            : throw Violation(
                $"answered a READ of {slot.Length} bytes at {slot.Offset} with {length} bytes at {offset}");
    }

    private ReadAssembly Cover(CommandSlot slot, uint start, uint length)
    {
        if (slot.Assembly is null)
        {
            slot.Assembly = _idleAssemblies.TryPop(out ReadAssembly? idle) ? idle : new(MaximumReadBytes);
            slot.Assembly.Begin(slot.Destination);
        }

        return slot.Assembly.TryCover(start, length)
            ? slot.Assembly
            : throw Violation($"sent a byte of a READ of {slot.Length} bytes at {slot.Offset} twice");
    }

    private void ReturnAssembly(ReadAssembly assembly)
    {
        if (_idleAssemblies.Count < MaximumIdleAssemblies)
        {
            _idleAssemblies.Push(assembly);
        }
        else
        {
            assembly.Dispose();
        }
    }

    /// <summary>A READ's data that is all zeroes, where it belongs, or in memory that nobody ever writes to.</summary>
    private byte* ZeroesFor(CommandSlot slot)
    {
        const int HeaderRoom = 4096;
        if (slot.Destination is not null)
        {
            NativeMemory.Clear(slot.Destination, (nuint)slot.Length);
            return slot.Destination;
        }

        _zeroes ??= new NativeBuffer(HeaderRoom + MaximumReadBytes);
        return _zeroes.Start + HeaderRoom;
    }

    private ulong ChunkOffset() =>
        BinaryPrimitives.ReadUInt64BigEndian(Peek(_headerBytes + sizeof(ulong))[_headerBytes..]);

    private ReadOnlySpan<byte> Peek(int count) => new(_received!.Start, count);

    private void Need(int count)
    {
        if (!_received!.TryFill(count))
        {
            throw Truncated();
        }
    }

    private NbdException Truncated() =>
        new($"{_peer}: the server closed the connection in the middle of a reply", Errno.EIO);

    private NbdProtocolException Violation(string what) =>
        new($"{_peer}: the server {what}; that is a bug of the server, its connection is closed");
}
