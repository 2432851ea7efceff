using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>One meta context: the data of NBD_REP_META_CONTEXT.</summary>
public readonly ref struct NbdMetaContext
{
    private NbdMetaContext(uint id, ReadOnlySpan<byte> name)
    {
        Id = id;
        Name = name;
    }

    /// <summary>Its id on this connection; means nothing in the answer to LIST_META_CONTEXT.</summary>
    public uint Id { get; }

    /// <summary>Its name, UTF-8, 1 to 4096 bytes.</summary>
    public ReadOnlySpan<byte> Name { get; }

    /// <summary>Takes the data apart.</summary>
    /// <returns>Whether their length is possible.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> data, out NbdMetaContext context)
    {
        context = default;
        if (data.Length is <= sizeof(uint) or > sizeof(uint) + NbdLimits.MaximumStringBytes)
        {
            return false;
        }

        context = new(BinaryPrimitives.ReadUInt32BigEndian(data), data[sizeof(uint)..]);
        return true;
    }
}
