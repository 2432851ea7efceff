using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>A simple reply (proto.md, "Simple reply message"). The data of a good READ follows it.</summary>
/// <param name="Error">NBD error number, 0 for success.</param>
/// <param name="Cookie">The cookie of the request.</param>
public readonly record struct NbdSimpleReply(uint Error, ulong Cookie)
{
    /// <summary>Size on the wire, in bytes.</summary>
    public const int SizeBytes = 16;

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

    /// <summary>An error of the whole command.</summary>
    Error = 0x8001,

    /// <summary>An error at an offset.</summary>
    ErrorOffset = 0x8002,
}

/// <summary>The header of a structured reply chunk (proto.md, "Structured reply chunk message").</summary>
/// <param name="IsDone">The last chunk of this reply.</param>
/// <param name="Type">What the payload holds; may be a value that the enumeration lacks.</param>
/// <param name="Cookie">The cookie of the request.</param>
/// <param name="Length">Length of the payload in bytes.</param>
public readonly record struct NbdChunkHeader(bool IsDone, NbdChunkType Type, ulong Cookie, uint Length)
{
    /// <summary>Size on the wire, in bytes.</summary>
    public const int SizeBytes = 20;

    /// <summary>Every chunk type with this bit reports an error.</summary>
    public const ushort ErrorBit = 1 << 15;

    private const ushort DoneFlag = 1 << 0;

    /// <summary>Whether the chunk reports an error, of a type known or unknown.</summary>
    public bool IsError => ((ushort)Type & ErrorBit) != 0;

    /// <summary>Reads a header whose magic was already checked.</summary>
    public static NbdChunkHeader Decode(ReadOnlySpan<byte> source) => new(
        (BinaryPrimitives.ReadUInt16BigEndian(source[4..]) & DoneFlag) != 0,
        (NbdChunkType)BinaryPrimitives.ReadUInt16BigEndian(source[6..]),
        BinaryPrimitives.ReadUInt64BigEndian(source[8..]),
        BinaryPrimitives.ReadUInt32BigEndian(source[16..]));
}
