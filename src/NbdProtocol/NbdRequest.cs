using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>The compact request of the transmission phase (proto.md, "Request message").</summary>
public static class NbdRequest
{
    /// <summary>Size of the header on the wire, in bytes. The payload of a WRITE follows it.</summary>
    public const int SizeBytes = 28;

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
        BinaryPrimitives.WriteUInt32BigEndian(destination, NbdMagic.Request);
        BinaryPrimitives.WriteUInt16BigEndian(destination[4..], (ushort)flags);
        BinaryPrimitives.WriteUInt16BigEndian(destination[6..], (ushort)type);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], cookie);
        BinaryPrimitives.WriteUInt64BigEndian(destination[16..], offset);
        BinaryPrimitives.WriteUInt32BigEndian(destination[24..], length);
    }
}
