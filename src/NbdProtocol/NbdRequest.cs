using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>
/// The request of the transmission phase (proto.md, "Request message"): compact, or extended, with 64 bits of length
/// (extended header extension).
/// </summary>
public static class NbdRequest
{
    /// <summary>Size of the header on the wire, in bytes. The payload of a WRITE follows it.</summary>
    public const int SizeBytes = 28;

    /// <summary>Size of the extended header on the wire, in bytes.</summary>
    public const int ExtendedSizeBytes = 32;

    /// <summary>Writes the header to the first <see cref="SizeBytes"/> bytes of <paramref name="destination"/>.</summary>
    public static void Encode(
        Span<byte> destination,
        NbdCommandType type,
        NbdCommandFlags flags,
        ulong cookie,
        ulong offset,
        uint length)
    {
        destination = destination[..SizeBytes];
        EncodeStart(destination, NbdMagic.Request, type, flags, cookie, offset);
        BinaryPrimitives.WriteUInt32BigEndian(destination[24..], length);
    }

    /// <summary>
    /// Writes the extended header to the first <see cref="ExtendedSizeBytes"/> bytes of
    /// <paramref name="destination"/>.
    /// </summary>
    public static void EncodeExtended(
        Span<byte> destination,
        NbdCommandType type,
        NbdCommandFlags flags,
        ulong cookie,
        ulong offset,
        ulong length)
    {
        destination = destination[..ExtendedSizeBytes];
        EncodeStart(destination, NbdMagic.ExtendedRequest, type, flags, cookie, offset);
        BinaryPrimitives.WriteUInt64BigEndian(destination[24..], length);
    }

    private static void EncodeStart(
        Span<byte> destination, uint magic, NbdCommandType type, NbdCommandFlags flags, ulong cookie, ulong offset)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, magic);
        BinaryPrimitives.WriteUInt16BigEndian(destination[4..], (ushort)flags);
        BinaryPrimitives.WriteUInt16BigEndian(destination[6..], (ushort)type);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], cookie);
        BinaryPrimitives.WriteUInt64BigEndian(destination[16..], offset);
    }
}
