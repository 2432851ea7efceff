using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>A simple reply (proto.md, "Simple reply message"). The data of a good READ follows it.</summary>
/// <param name="Error">NBD error number, 0 for success.</param>
/// <param name="Cookie">The cookie of the request.</param>
public readonly record struct NbdSimpleReply(uint Error, ulong Cookie)
{
    /// <summary>Size on the wire, in bytes.</summary>
    public const int SizeBytes = 16;

    /// <summary>Writes the reply to the first <see cref="SizeBytes"/> bytes.</summary>
    public void Encode(Span<byte> destination)
    {
        destination = destination[..SizeBytes];
        BinaryPrimitives.WriteUInt32BigEndian(destination, NbdMagic.SimpleReply);
        BinaryPrimitives.WriteUInt32BigEndian(destination[4..], Error);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], Cookie);
    }

    /// <summary>Reads a reply whose magic was already checked.</summary>
    public static NbdSimpleReply Decode(ReadOnlySpan<byte> source) => new(
        BinaryPrimitives.ReadUInt32BigEndian(source[4..]),
        BinaryPrimitives.ReadUInt64BigEndian(source[8..]));
}

/// <summary>What a structured reply chunk holds (proto.md, "Structured reply types").</summary>
public enum NbdChunkType : ushort
{
    /// <summary>Nothing; only ends the reply.</summary>
    None = 0,

    /// <summary>Offset and data of a READ.</summary>
    OffsetData = 1,

    /// <summary>Offset and length of zeroes of a READ.</summary>
    OffsetHole = 2,

    /// <summary>Extents of one meta context.</summary>
    BlockStatus = 5,

    /// <summary>Extents of one meta context, with 64-bit lengths; only with extended headers.</summary>
    BlockStatusExtended = 6,

    /// <summary>An error of the whole command.</summary>
    Error = 0x8001,

    /// <summary>An error at an offset.</summary>
    ErrorOffset = 0x8002,
}

/// <summary>
/// The header of a structured reply chunk (proto.md, "Structured reply chunk message"); with one field more, that
/// of an extended one ("Extended reply chunk message" of the extended header extension).
/// </summary>
/// <param name="IsDone">The last chunk of this reply.</param>
/// <param name="Type">What the payload holds; may be a value that the enumeration lacks.</param>
/// <param name="Cookie">The cookie of the request.</param>
/// <param name="Length">Length of the payload in bytes.</param>
public readonly record struct NbdChunkHeader(bool IsDone, NbdChunkType Type, ulong Cookie, ulong Length)
{
    /// <summary>Size on the wire, in bytes.</summary>
    public const int SizeBytes = 20;

    /// <summary>Size of the extended form on the wire, in bytes.</summary>
    public const int ExtendedSizeBytes = 32;

    /// <summary>Every chunk type with this bit reports an error.</summary>
    public const ushort ErrorBit = 1 << 15;

    private const ushort DoneFlag = 1 << 0;

    /// <summary>Whether the chunk reports an error, of a type known or unknown.</summary>
    public bool IsError => ((ushort)Type & ErrorBit) != 0;

    /// <summary>Writes the header to the first <see cref="SizeBytes"/> bytes.</summary>
    public void Encode(Span<byte> destination)
    {
        destination = destination[..SizeBytes];
        EncodeStart(destination, NbdMagic.StructuredReply);
        BinaryPrimitives.WriteUInt32BigEndian(destination[16..], (uint)Length);
    }

    /// <summary>
    /// Writes the header of an extended reply chunk, which names the request's offset, to the first
    /// <see cref="ExtendedSizeBytes"/> bytes.
    /// </summary>
    public void EncodeExtended(Span<byte> destination, ulong offset)
    {
        destination = destination[..ExtendedSizeBytes];
        EncodeStart(destination, NbdMagic.ExtendedReply);
        BinaryPrimitives.WriteUInt64BigEndian(destination[16..], offset);
        BinaryPrimitives.WriteUInt64BigEndian(destination[24..], Length);
    }

    /// <summary>Reads a header whose magic was already checked.</summary>
    public static NbdChunkHeader Decode(ReadOnlySpan<byte> source) =>
        DecodeStart(source, BinaryPrimitives.ReadUInt32BigEndian(source[16..]));

    /// <summary>Reads a header of the extended form whose magic was already checked.</summary>
    /// <param name="source">At least <see cref="ExtendedSizeBytes"/> bytes.</param>
    /// <param name="offset">Must be the request's.</param>
    public static NbdChunkHeader DecodeExtended(ReadOnlySpan<byte> source, out ulong offset)
    {
        offset = BinaryPrimitives.ReadUInt64BigEndian(source[16..]);
        return DecodeStart(source, BinaryPrimitives.ReadUInt64BigEndian(source[24..]));
    }

    private static NbdChunkHeader DecodeStart(ReadOnlySpan<byte> source, ulong length) => new(
        (BinaryPrimitives.ReadUInt16BigEndian(source[4..]) & DoneFlag) != 0,
        (NbdChunkType)BinaryPrimitives.ReadUInt16BigEndian(source[6..]),
        BinaryPrimitives.ReadUInt64BigEndian(source[8..]),
        length);

    private void EncodeStart(Span<byte> destination, uint magic)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, magic);
        BinaryPrimitives.WriteUInt16BigEndian(destination[4..], IsDone ? DoneFlag : (ushort)0);
        BinaryPrimitives.WriteUInt16BigEndian(destination[6..], (ushort)Type);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], Cookie);
    }
}
