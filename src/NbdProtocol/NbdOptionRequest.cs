using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>An option request (proto.md, "Option haggling"): header, then option-specific data.</summary>
public static class NbdOptionRequest
{
    /// <summary>Size of the header on the wire, in bytes.</summary>
    public const int HeaderBytes = 16;

    /// <summary>Room for any request that this class writes, in bytes.</summary>
    public const int MaximumBytes = HeaderBytes + 4 + NbdLimits.MaximumStringBytes + 2 + (4 * sizeof(ushort));

    /// <summary>Writes an option without data.</summary>
    /// <returns>Bytes written.</returns>
    public static int Encode(Span<byte> destination, NbdOption option)
    {
        EncodeHeader(destination, option, 0);
        return HeaderBytes;
    }

    /// <summary>Writes EXPORT_NAME: the name is all of its data.</summary>
    /// <returns>Bytes written.</returns>
    public static int EncodeExportName(Span<byte> destination, ReadOnlySpan<byte> name)
    {
        EncodeHeader(destination, NbdOption.ExportName, (uint)name.Length);
        name.CopyTo(destination[HeaderBytes..]);
        return HeaderBytes + name.Length;
    }

    /// <summary>Writes GO or INFO: length and name, count and types of the information asked for.</summary>
    /// <returns>Bytes written.</returns>
    public static int EncodeGo(
        Span<byte> destination,
        NbdOption option,
        ReadOnlySpan<byte> name,
        ReadOnlySpan<NbdInfoType> infos)
    {
        int length = 4 + name.Length + 2 + (infos.Length * sizeof(ushort));
        EncodeHeader(destination, option, (uint)length);
        Span<byte> data = destination.Slice(HeaderBytes, length);
        BinaryPrimitives.WriteUInt32BigEndian(data, (uint)name.Length);
        name.CopyTo(data[4..]);
        data = data[(4 + name.Length)..];
        BinaryPrimitives.WriteUInt16BigEndian(data, (ushort)infos.Length);
        foreach (NbdInfoType info in infos)
        {
            data = data[sizeof(ushort)..];
            BinaryPrimitives.WriteUInt16BigEndian(data, (ushort)info);
        }

        return HeaderBytes + length;
    }

    /// <summary>Length of what <see cref="EncodeMetaContext"/> writes, in bytes.</summary>
    public static int MetaContextBytes(ReadOnlySpan<byte> name, IReadOnlyList<byte[]> queries)
    {
        int length = HeaderBytes + sizeof(uint) + name.Length + sizeof(uint);
        for (int i = 0; i < queries.Count; i++)
        {
            length += sizeof(uint) + queries[i].Length;
        }

        return length;
    }

    /// <summary>Writes LIST_META_CONTEXT or SET_META_CONTEXT: the export's name, then the queries.</summary>
    /// <param name="destination">Exactly <see cref="MetaContextBytes"/> bytes.</param>
    /// <param name="option">Which of the two.</param>
    /// <param name="name">The export's name, UTF-8.</param>
    /// <param name="queries">Queries, UTF-8, such as "base:allocation".</param>
    public static void EncodeMetaContext(
        Span<byte> destination, NbdOption option, ReadOnlySpan<byte> name, IReadOnlyList<byte[]> queries)
    {
        EncodeHeader(destination, option, (uint)(destination.Length - HeaderBytes));
        Span<byte> data = destination[HeaderBytes..];
        AddText(ref data, name);
        BinaryPrimitives.WriteUInt32BigEndian(data, (uint)queries.Count);
        data = data[sizeof(uint)..];
        for (int i = 0; i < queries.Count; i++)
        {
            AddText(ref data, queries[i]);
        }
    }

    private static void AddText(ref Span<byte> data, ReadOnlySpan<byte> text)
    {
        BinaryPrimitives.WriteUInt32BigEndian(data, (uint)text.Length);
        text.CopyTo(data[sizeof(uint)..]);
        data = data[(sizeof(uint) + text.Length)..];
    }

    private static void EncodeHeader(Span<byte> destination, NbdOption option, uint length)
    {
        BinaryPrimitives.WriteUInt64BigEndian(destination, NbdMagic.Option);
        BinaryPrimitives.WriteUInt32BigEndian(destination[8..], (uint)option);
        BinaryPrimitives.WriteUInt32BigEndian(destination[12..], length);
    }
}
