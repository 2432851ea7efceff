using System.Buffers.Binary;
using System.Numerics;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>
/// The answers to BLOCK_STATUS. However long, they are handed on in parts as they come, so that they need no memory
/// that a server could blow up.
/// </content>
internal sealed unsafe partial class NbdConnection
{
    // Descriptors handed on in one call.
    private const int DescriptorsPerCall = 512;

    // A BLOCK_STATUS that names all contexts that there can be: header, length of the range, ids.
    private const int MaximumFilteredStatusBytes =
        NbdRequest.ExtendedSizeBytes + sizeof(ulong) + (NbdClientOptions.MaximumMetaContexts * sizeof(uint));

    private NbdBlockDescriptor[]? _descriptors;

    /// <summary>A BLOCK_STATUS whose payload names the contexts that are wanted.</summary>
    /// <returns>Bytes of it.</returns>
    private int EncodeFilteredStatus(byte* header, CommandSlot slot)
    {
        Span<byte> payload =
            new(header + NbdRequest.ExtendedSizeBytes, MaximumFilteredStatusBytes - NbdRequest.ExtendedSizeBytes);
        BinaryPrimitives.WriteUInt64BigEndian(payload, slot.Length);
        int bytes = sizeof(ulong);
        for (int i = 0; i < _contextIds.Length; i++)
        {
            if ((slot.ContextsWanted & (1UL << i)) != 0)
            {
                BinaryPrimitives.WriteUInt32BigEndian(payload[bytes..], _contextIds[i]);
                bytes += sizeof(uint);
            }
        }

        NbdCommandFlags flags = slot.Flags | NbdCommandFlags.PayloadLength;
        return EncodeHeader(header, slot.Type, flags, slot.Cookie, slot.Offset, (ulong)bytes) + bytes;
    }

    /// <summary>The contexts that the reply must have, a bit for each.</summary>
    private ulong ContextsDue(CommandSlot slot) => _filtersContexts && slot.ContextsWanted != 0
        ? slot.ContextsWanted
        : ulong.MaxValue >> (NbdClientOptions.MaximumMetaContexts - _contextIds.Length);

    private void ReceiveStatusChunk(CommandSlot slot, NbdChunkHeader chunk)
    {
        int headBytes = _extendedHeaders ? 2 * sizeof(uint) : sizeof(uint);
        int descriptorBytes = _extendedHeaders ? NbdBlockDescriptor.ExtendedSizeBytes : NbdBlockDescriptor.SizeBytes;
        ulong count = chunk.Length < (ulong)headBytes ? 0 : (chunk.Length - (ulong)headBytes) / (ulong)descriptorBytes;
        if (count is 0 or > NbdConnectionPool.MaximumDescriptors
            || chunk.Length != (ulong)headBytes + (count * (ulong)descriptorBytes))
        {
            throw Violation($"sent a block status chunk of {chunk.Length} bytes");
        }

        if (count > 1 && slot.Flags.HasFlag(NbdCommandFlags.RequestOne))
        {
            throw Violation($"answered a BLOCK_STATUS for one extent with {count} of them");
        }

        Need(_headerBytes + headBytes);
        ReadOnlySpan<byte> head = Peek(_headerBytes + headBytes)[_headerBytes..];
        if (_extendedHeaders && BinaryPrimitives.ReadUInt32BigEndian(head[sizeof(uint)..]) is uint stated
            && stated != count)
        {
            throw Violation($"sent a block status chunk of {count} extents that claims {stated}");
        }

        int context = NoteContext(slot, BinaryPrimitives.ReadUInt32BigEndian(head));
        _received!.Consume(_headerBytes + headBytes);
        ReceiveDescriptors(slot, context, (int)count, descriptorBytes);
    }

    /// <returns>Its index; each may come once.</returns>
    private int NoteContext(CommandSlot slot, uint id)
    {
        int context = Array.IndexOf(_contextIds, id);
        ulong bit = context < 0 ? 0 : 1UL << context;
        if ((ContextsDue(slot) & bit) == 0)
        {
            throw Violation($"answered a BLOCK_STATUS for meta context id {id}, which was not asked for");
        }

        if ((slot.ContextsSeen & bit) != 0)
        {
            throw Violation($"answered a BLOCK_STATUS twice for meta context id {id}");
        }

        slot.ContextsSeen |= bit;
        return context;
    }

    private void ReceiveDescriptors(CommandSlot slot, int context, int count, int descriptorBytes)
    {
        NbdBlockStatusCompletion completion = (NbdBlockStatusCompletion)slot.Completion!;
        _descriptors ??= new NbdBlockDescriptor[DescriptorsPerCall];
        ulong sum = 0;
        while (count > 0)
        {
            int part = Math.Min(count, DescriptorsPerCall);
            count -= part;
            Need(part * descriptorBytes);
            ReadOnlySpan<byte> wire = Peek(part * descriptorBytes);
            for (int i = 0; i < part; i++, wire = wire[descriptorBytes..])
            {
                NbdBlockDescriptor descriptor =
                    _extendedHeaders ? NbdBlockDescriptor.DecodeExtended(wire) : NbdBlockDescriptor.Decode(wire);
                CheckDescriptor(slot, descriptor, sum);
                sum += descriptor.Length;
                _descriptors[i] = descriptor;
            }

            _received!.Consume(part * descriptorBytes);
            if (slot.Error == Errno.None)
            {
                completion.OnExtents(context, _descriptors.AsSpan(0, part));
            }
        }
    }

    /// <param name="slot">The command.</param>
    /// <param name="descriptor">The next extent.</param>
    /// <param name="sum">
    /// Length of those before it: only the last may reach to the end of the range, or past it.
    /// </param>
    private void CheckDescriptor(CommandSlot slot, NbdBlockDescriptor descriptor, ulong sum)
    {
        bool one = slot.Flags.HasFlag(NbdCommandFlags.RequestOne);
        if (descriptor.Length == 0 || sum >= slot.Length || (one && descriptor.Length > slot.Length)
            || descriptor.Length > ulong.MaxValue - sum)
        {
            throw Violation(
                $"answered a BLOCK_STATUS of {slot.Length} bytes at {slot.Offset} with an extent of "
                + $"{descriptor.Length} bytes after {sum} bytes");
        }
    }

    private void CheckAllContexts(CommandSlot slot)
    {
        ulong due = ContextsDue(slot);
        if (slot.ContextsSeen != due)
        {
            throw Violation(
                $"answered a BLOCK_STATUS for {BitOperations.PopCount(slot.ContextsSeen)} of "
                + $"{BitOperations.PopCount(due)} meta contexts");
        }
    }
}
