using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>The header of an option request as a server reads it (proto.md, "Option haggling").</summary>
/// <param name="Option">What is wanted; may be a value that the enumeration lacks.</param>
/// <param name="Length">Length of the data that follow, in bytes.</param>
public readonly record struct NbdOptionHeader(NbdOption Option, uint Length)
{
    /// <summary>Reads a header of <see cref="NbdOptionRequest.HeaderBytes"/> bytes.</summary>
    /// <returns>Whether the magic number is right.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> source, out NbdOptionHeader header)
    {
        header = new(
            (NbdOption)BinaryPrimitives.ReadUInt32BigEndian(source[8..]),
            BinaryPrimitives.ReadUInt32BigEndian(source[12..]));
        return BinaryPrimitives.ReadUInt64BigEndian(source) == NbdMagic.Option;
    }
}
