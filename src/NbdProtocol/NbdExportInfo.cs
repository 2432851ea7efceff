using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>Size and flags of an export: NBD_INFO_EXPORT, and the answer to EXPORT_NAME.</summary>
/// <param name="SizeBytes">Size in bytes as the server sent it; may be out of range.</param>
/// <param name="Flags">Flags as the server sent them; may hold unknown bits.</param>
public readonly record struct NbdExportInfo(ulong SizeBytes, NbdTransmissionFlags Flags)
{
    /// <summary>Length on the wire, in bytes, without the info type.</summary>
    public const int LengthBytes = 10;

    /// <summary>Writes the fields.</summary>
    public void Encode(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt64BigEndian(destination, SizeBytes);
        BinaryPrimitives.WriteUInt16BigEndian(destination[8..], (ushort)Flags);
    }

    /// <summary>Reads the fields.</summary>
    public static NbdExportInfo Decode(ReadOnlySpan<byte> source) => new(
        BinaryPrimitives.ReadUInt64BigEndian(source),
        (NbdTransmissionFlags)BinaryPrimitives.ReadUInt16BigEndian(source[8..]));
}
