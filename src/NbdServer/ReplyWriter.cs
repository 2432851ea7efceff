using System.Buffers.Binary;
using System.Text;
using Nbd.Protocol;

namespace Nbd;

/// <summary>Builds the replies of one connection. Thread-safe: it has no state but the style.</summary>
internal sealed unsafe class ReplyWriter(ReplyStyle style)
{
    private const int OffsetBytes = sizeof(ulong);

    /// <summary>Whether there are simple replies only.</summary>
    public bool IsSimple => style == ReplyStyle.Simple;

    /// <summary>The request did what it should.</summary>
    public void Succeed(ServerRequest request)
    {
        switch (request.Header.Type)
        {
            case NbdCommandType.Read when style == ReplyStyle.Simple:
                AddSimple(request, 0);
                request.AddPayload(0, request.Payload.Length);
                break;
            case NbdCommandType.Read when request.IsFragmented:
                AddPieces(request);
                break;
            case NbdCommandType.Read:
                AddData(request, 0, request.Payload.Length);
                break;
            case NbdCommandType.BlockStatus:
                AddExtents(request);
                break;
            case var _ when style == ReplyStyle.Extended:
                AddChunk(request, NbdChunkType.None, true, 0, 0);
                break;
            default:
                // Also with structured replies: 4 bytes less than a chunk.
                AddSimple(request, 0);
                break;
        }
    }

    /// <summary>The request failed: as a whole, whatever was built before.</summary>
    /// <param name="request">The request.</param>
    /// <param name="error">NBD error number.</param>
    /// <param name="text">For people.</param>
    public void Fail(ServerRequest request, uint error, string text)
    {
        request.BeginReply();
        if (style == ReplyStyle.Simple)
        {
            AddSimple(request, error);
            return;
        }

        const int FixedBytes = sizeof(uint) + sizeof(ushort);
        int textBytes = Encoding.UTF8.GetByteCount(text);
        Span<byte> payload = AddChunk(request, NbdChunkType.Error, true, FixedBytes + textBytes, FixedBytes + textBytes);
        BinaryPrimitives.WriteUInt32BigEndian(payload, error);
        BinaryPrimitives.WriteUInt16BigEndian(payload[sizeof(uint)..], (ushort)textBytes);
        Encoding.UTF8.GetBytes(text, payload[FixedBytes..]);
    }

    private static void AddSimple(ServerRequest request, uint error) =>
        new NbdSimpleReply(error, request.Header.Cookie).Encode(request.AddHeader(NbdSimpleReply.SizeBytes));

    /// <summary>Data and holes, as the extents of the request say.</summary>
    private void AddPieces(ServerRequest request)
    {
        int length = request.Payload.Length;
        int done = 0;
        int dataStart = 0;
        for (int i = 0; i < request.Extents.Count; i++)
        {
            (long extentLength, NbdExtentFlags flags) = request.Extents[i];
            if ((flags & NbdExtentFlags.Zero) != 0)
            {
                AddData(request, dataStart, done);
                dataStart = done + (int)extentLength;
                Span<byte> hole = AddChunk(
                    request, NbdChunkType.OffsetHole, dataStart == length, OffsetBytes + sizeof(uint), OffsetBytes + sizeof(uint));
                BinaryPrimitives.WriteUInt64BigEndian(hole, request.Header.Offset + (ulong)done);
                BinaryPrimitives.WriteUInt32BigEndian(hole[OffsetBytes..], (uint)extentLength);
            }

            done += (int)extentLength;
        }

        AddData(request, dataStart, length);
    }

    private void AddData(ServerRequest request, int start, int end)
    {
        if (start == end)
        {
            return;
        }

        int length = end - start;
        bool isDone = end == request.Payload.Length;
        Span<byte> offset = AddChunk(request, NbdChunkType.OffsetData, isDone, OffsetBytes + length, OffsetBytes);
        BinaryPrimitives.WriteUInt64BigEndian(offset, request.Header.Offset + (ulong)start);
        request.AddPayload(start, length);
    }

    private void AddExtents(ServerRequest request)
    {
        NbdExtentList extents = request.Extents;
        if (extents.Count == 0)
        {
            // "Data" is always a true answer.
            _ = extents.TryAdd((long)request.Header.Length, NbdExtentFlags.Data);
        }

        bool isExtended = style == ReplyStyle.Extended;
        int headBytes = isExtended ? 2 * sizeof(uint) : sizeof(uint);
        int extentBytes = isExtended ? NbdBlockDescriptor.ExtendedSizeBytes : NbdBlockDescriptor.SizeBytes;
        int bytes = extents.Count * extentBytes;
        Span<byte> head = AddChunk(
            request,
            isExtended ? NbdChunkType.BlockStatusExtended : NbdChunkType.BlockStatus,
            true,
            headBytes + bytes,
            headBytes);
        BinaryPrimitives.WriteUInt32BigEndian(head, ServerHandshake.AllocationContextId);
        if (isExtended)
        {
            BinaryPrimitives.WriteUInt32BigEndian(head[sizeof(uint)..], (uint)extents.Count);
        }

        Span<byte> wire = new(request.PayloadStart, bytes);
        for (int i = 0; i < extents.Count; i++)
        {
            (long length, NbdExtentFlags flags) = extents[i];
            NbdBlockDescriptor descriptor = new((ulong)length, (uint)flags);
            if (isExtended)
            {
                descriptor.EncodeExtended(wire);
            }
            else
            {
                descriptor.Encode(wire);
            }

            wire = wire[extentBytes..];
        }

        request.AddPayload(0, bytes);
    }

    /// <summary>Adds the header of a chunk, and room for the first bytes of its payload.</summary>
    /// <returns>That room.</returns>
    private Span<byte> AddChunk(ServerRequest request, NbdChunkType type, bool isDone, int length, int room)
    {
        NbdChunkHeader header = new(isDone, type, request.Header.Cookie, (uint)length);
        if (style == ReplyStyle.Extended)
        {
            Span<byte> bytes = request.AddHeader(NbdChunkHeader.ExtendedSizeBytes + room);
            header.EncodeExtended(bytes, request.Header.Offset);
            return bytes[NbdChunkHeader.ExtendedSizeBytes..];
        }

        Span<byte> wire = request.AddHeader(NbdChunkHeader.SizeBytes + room);
        header.Encode(wire);
        return wire[NbdChunkHeader.SizeBytes..];
    }
}
