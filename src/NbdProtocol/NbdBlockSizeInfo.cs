using System.Buffers.Binary;
using System.Numerics;

namespace Nbd.Protocol;

/// <summary>Block sizes of an export: NBD_INFO_BLOCK_SIZE (proto.md, "Size constraints").</summary>
/// <param name="MinimumBytes">Every offset and length is a multiple of it.</param>
/// <param name="PreferredBytes">What the server handles best.</param>
/// <param name="MaximumPayloadBytes">Largest payload; 0xffffffff is no limit.</param>
public readonly record struct NbdBlockSizeInfo(uint MinimumBytes, uint PreferredBytes, uint MaximumPayloadBytes)
{
    /// <summary>Length on the wire, in bytes, without the info type.</summary>
    public const int LengthBytes = 12;

    /// <summary>Whether the sizes obey the specification, each for itself and to one another.</summary>
    public bool IsValid =>
        BitOperations.IsPow2(MinimumBytes)
        && MinimumBytes <= NbdLimits.MaximumMinimumBlockBytes
        && BitOperations.IsPow2(PreferredBytes)
        && PreferredBytes >= NbdLimits.MinimumPreferredBlockBytes
        && PreferredBytes >= MinimumBytes
        && MaximumPayloadBytes >= PreferredBytes
        && (MaximumPayloadBytes == uint.MaxValue || MaximumPayloadBytes % MinimumBytes == 0);

    /// <summary>Writes the fields.</summary>
    public void Encode(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt32BigEndian(destination, MinimumBytes);
        BinaryPrimitives.WriteUInt32BigEndian(destination[4..], PreferredBytes);
        BinaryPrimitives.WriteUInt32BigEndian(destination[8..], MaximumPayloadBytes);
    }

    /// <summary>Reads the fields.</summary>
    public static NbdBlockSizeInfo Decode(ReadOnlySpan<byte> source) => new(
        BinaryPrimitives.ReadUInt32BigEndian(source),
        BinaryPrimitives.ReadUInt32BigEndian(source[4..]),
        BinaryPrimitives.ReadUInt32BigEndian(source[8..]));
}
