using System.Buffers.Binary;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>Error chunks. The first of a reply is the outcome of its command; what it says is passed on at once.</content>
internal sealed unsafe partial class NbdConnection
{
    // proto.md: strings are at most 4096 bytes. An error of a type that we do not know may hold more than a text.
    private const int MaximumErrorChunkBytes = 8192;

    // A reply may report an error for each of its parts, but not for ever.
    private const int MaximumErrorChunks = 4096;

    private void ReceiveErrorChunk(CommandSlot slot, NbdChunkHeader chunk)
    {
        const int FixedBytes = sizeof(uint) + sizeof(ushort);
        bool hasOffset = chunk.Type == NbdChunkType.ErrorOffset;
        int offsetBytes = hasOffset ? sizeof(ulong) : 0;
        if (chunk.Length < (ulong)(FixedBytes + offsetBytes) || chunk.Length > MaximumErrorChunkBytes
            || ++slot.ErrorChunks > MaximumErrorChunks)
        {
            throw Violation($"sent error chunk {slot.ErrorChunks} of a reply, of {chunk.Length} bytes");
        }

        int size = _headerBytes + (int)chunk.Length;
        Need(size);
        ReadOnlySpan<byte> payload = Peek(size)[_headerBytes..];
        uint error = BinaryPrimitives.ReadUInt32BigEndian(payload);
        int textBytes = BinaryPrimitives.ReadUInt16BigEndian(payload[sizeof(uint)..]);
        if (error == 0 || textBytes > payload.Length - FixedBytes - offsetBytes)
        {
            throw Violation($"sent an error chunk with error {error} and a text of {textBytes} bytes");
        }

        if (slot.Error == Errno.None)
        {
            slot.Error = NbdError.ToErrno(error);
            if (textBytes > 0 || hasOffset)
            {
                ReadOnlySpan<byte> afterText = payload[(FixedBytes + textBytes)..];
                TellError(
                    slot,
                    payload.Slice(FixedBytes, textBytes),
                    hasOffset ? BinaryPrimitives.ReadUInt64BigEndian(afterText) : null);
            }
        }

        _received!.Consume(size);
    }

    private void TellError(CommandSlot slot, ReadOnlySpan<byte> text, ulong? errorOffset)
    {
        NbdServerError error =
            new(slot.Type, slot.Offset, slot.Length, slot.Error, PrintableText.From(text), errorOffset);
        slot.Completion!.OnServerError(error);
        ServerError?.Invoke(error);
    }
}
