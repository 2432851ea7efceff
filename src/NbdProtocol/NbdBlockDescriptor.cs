using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>
/// One extent in a reply to BLOCK_STATUS: a block status descriptor (proto.md, "NBD_REPLY_TYPE_BLOCK_STATUS" and, of
/// the extended header extension, "NBD_REPLY_TYPE_BLOCK_STATUS_EXT").
/// </summary>
/// <param name="Length">Bytes, at least 1.</param>
/// <param name="Flags">What the meta context says about them; at most 32 bits without extended headers.</param>
public readonly record struct NbdBlockDescriptor(ulong Length, ulong Flags)
{
    /// <summary>Size on the wire, in bytes.</summary>
    public const int SizeBytes = 8;

    /// <summary>Size of the extended form on the wire, in bytes.</summary>
    public const int ExtendedSizeBytes = 16;

    /// <summary>Writes the first <see cref="SizeBytes"/> bytes; both fields must fit into 32 bits.</summary>
    public void Encode(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, (uint)Length);
        BinaryPrimitives.WriteUInt32BigEndian(destination[sizeof(uint)..], (uint)Flags);
    }

    /// <summary>Writes the extended form to the first <see cref="ExtendedSizeBytes"/> bytes.</summary>
    public void EncodeExtended(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt64BigEndian(destination, Length);
        BinaryPrimitives.WriteUInt64BigEndian(destination[sizeof(ulong)..], Flags);
    }

    /// <summary>Reads a descriptor.</summary>
    public static NbdBlockDescriptor Decode(ReadOnlySpan<byte> source) => new(
        BinaryPrimitives.ReadUInt32BigEndian(source),
        BinaryPrimitives.ReadUInt32BigEndian(source[sizeof(uint)..]));

    /// <summary>Reads a descriptor in its extended form.</summary>
    public static NbdBlockDescriptor DecodeExtended(ReadOnlySpan<byte> source) => new(
        BinaryPrimitives.ReadUInt64BigEndian(source),
        BinaryPrimitives.ReadUInt64BigEndian(source[sizeof(ulong)..]));
}
