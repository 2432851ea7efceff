using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>The header of an option reply (proto.md, "Option haggling").</summary>
/// <param name="Option">The option that it answers.</param>
/// <param name="Type">What it says; may be a value that the enumeration lacks.</param>
/// <param name="Length">Length of the data that follow, in bytes.</param>
public readonly record struct NbdOptionReply(NbdOption Option, NbdOptionReplyType Type, uint Length)
{
    /// <summary>Size on the wire, in bytes.</summary>
    public const int SizeBytes = 20;

    private const uint ErrorBit = 1u << 31;

    /// <summary>Whether it reports an error, of a type known or unknown; its data are then a text.</summary>
    public bool IsError => ((uint)Type & ErrorBit) != 0;

    /// <summary>Writes the header to the first <see cref="SizeBytes"/> bytes.</summary>
    public void Encode(Span<byte> destination)
    {
        destination = destination[..SizeBytes];
        BinaryPrimitives.WriteUInt64BigEndian(destination, NbdMagic.OptionReply);
        BinaryPrimitives.WriteUInt32BigEndian(destination[8..], (uint)Option);
        BinaryPrimitives.WriteUInt32BigEndian(destination[12..], (uint)Type);
        BinaryPrimitives.WriteUInt32BigEndian(destination[16..], Length);
    }

    /// <summary>Reads a header.</summary>
    /// <returns>Whether the magic number is right.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> source, out NbdOptionReply reply)
    {
        reply = new(
            (NbdOption)BinaryPrimitives.ReadUInt32BigEndian(source[8..]),
            (NbdOptionReplyType)BinaryPrimitives.ReadUInt32BigEndian(source[12..]),
            BinaryPrimitives.ReadUInt32BigEndian(source[16..]));
        return BinaryPrimitives.ReadUInt64BigEndian(source) == NbdMagic.OptionReply;
    }
}
