using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>
/// A request as a server reads it, compact or extended (proto.md, "Request message"; the extended form has 64 bits
/// of length).
/// </summary>
/// <param name="Type">What to do; may be a value that the enumeration lacks.</param>
/// <param name="Flags">How; may hold unknown bits.</param>
/// <param name="Cookie">Names the request in its reply.</param>
/// <param name="Offset">First byte.</param>
/// <param name="Length">Bytes: of the range, or of the payload.</param>
public readonly record struct NbdRequestHeader(
    NbdCommandType Type, NbdCommandFlags Flags, ulong Cookie, ulong Offset, ulong Length)
{
    /// <summary>Reads a compact request.</summary>
    /// <returns>Whether the magic number is right.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> source, out NbdRequestHeader header)
    {
        source = source[..NbdRequest.SizeBytes];
        header = Decode(source, BinaryPrimitives.ReadUInt32BigEndian(source[24..]));
        return BinaryPrimitives.ReadUInt32BigEndian(source) == NbdMagic.Request;
    }

    /// <summary>Reads an extended request.</summary>
    /// <returns>Whether the magic number is right.</returns>
    public static bool TryDecodeExtended(ReadOnlySpan<byte> source, out NbdRequestHeader header)
    {
        source = source[..NbdRequest.ExtendedSizeBytes];
        header = Decode(source, BinaryPrimitives.ReadUInt64BigEndian(source[24..]));
        return BinaryPrimitives.ReadUInt32BigEndian(source) == NbdMagic.ExtendedRequest;
    }

    private static NbdRequestHeader Decode(ReadOnlySpan<byte> source, ulong length) => new(
        (NbdCommandType)BinaryPrimitives.ReadUInt16BigEndian(source[6..]),
        (NbdCommandFlags)BinaryPrimitives.ReadUInt16BigEndian(source[4..]),
        BinaryPrimitives.ReadUInt64BigEndian(source[8..]),
        BinaryPrimitives.ReadUInt64BigEndian(source[16..]),
        length);
}
