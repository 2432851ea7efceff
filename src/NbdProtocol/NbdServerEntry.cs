using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>One export of a LIST: the data of NBD_REP_SERVER.</summary>
public readonly ref struct NbdServerEntry
{
    private NbdServerEntry(ReadOnlySpan<byte> name, ReadOnlySpan<byte> description)
    {
        Name = name;
        Description = description;
    }

    /// <summary>Name of the export, UTF-8.</summary>
    public ReadOnlySpan<byte> Name { get; }

    /// <summary>Text of the server about it, UTF-8; usually empty.</summary>
    public ReadOnlySpan<byte> Description { get; }

    /// <summary>Takes the data apart.</summary>
    /// <returns>Whether the lengths in it are possible.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> data, out NbdServerEntry entry)
    {
        entry = default;
        if (data.Length < sizeof(uint))
        {
            return false;
        }

        uint nameLength = BinaryPrimitives.ReadUInt32BigEndian(data);
        data = data[sizeof(uint)..];
        if (nameLength > data.Length || nameLength > NbdLimits.MaximumStringBytes)
        {
            return false;
        }

        entry = new(data[..(int)nameLength], data[(int)nameLength..]);
        return true;
    }
}
