using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>
/// The data of INFO and GO, and of LIST_META_CONTEXT and SET_META_CONTEXT, as a server reads them: an export name,
/// then a list.
/// </summary>
public readonly ref struct NbdExportRequest
{
    private NbdExportRequest(ReadOnlySpan<byte> name, int count, ReadOnlySpan<byte> items)
    {
        Name = name;
        Count = count;
        Items = items;
    }

    /// <summary>The export's name, UTF-8, at most 4096 bytes.</summary>
    public ReadOnlySpan<byte> Name { get; }

    /// <summary>Items in the list.</summary>
    public int Count { get; }

    /// <summary>The list: types of 2 bytes, or queries that start with their length.</summary>
    public ReadOnlySpan<byte> Items { get; }

    /// <summary>Takes the data of INFO or GO apart.</summary>
    /// <returns>Whether the lengths in it are possible.</returns>
    public static bool TryDecodeInfo(ReadOnlySpan<byte> data, out NbdExportRequest request)
    {
        request = default;
        if (!TryTakeText(ref data, out ReadOnlySpan<byte> name) || data.Length < sizeof(ushort))
        {
            return false;
        }

        int count = BinaryPrimitives.ReadUInt16BigEndian(data);
        request = new(name, count, data[sizeof(ushort)..]);
        return request.Items.Length == count * sizeof(ushort);
    }

    /// <summary>Takes the data of LIST_META_CONTEXT or SET_META_CONTEXT apart.</summary>
    /// <returns>Whether the lengths in it are possible, those of the queries too.</returns>
    public static bool TryDecodeMetaContext(ReadOnlySpan<byte> data, out NbdExportRequest request)
    {
        request = default;
        if (!TryTakeText(ref data, out ReadOnlySpan<byte> name) || data.Length < sizeof(uint))
        {
            return false;
        }

        uint count = BinaryPrimitives.ReadUInt32BigEndian(data);
        ReadOnlySpan<byte> queries = data[sizeof(uint)..];
        if (count > queries.Length / sizeof(uint))
        {
            return false;
        }

        request = new(name, (int)count, queries);
        for (uint i = 0; i < count; i++)
        {
            if (!TryTakeText(ref queries, out _))
            {
                return false;
            }
        }

        return queries.IsEmpty;
    }

    /// <summary>Takes a length and a text of at most 4096 bytes off the front.</summary>
    /// <returns>Whether it is there.</returns>
    public static bool TryTakeText(scoped ref ReadOnlySpan<byte> data, out ReadOnlySpan<byte> text)
    {
        text = default;
        if (data.Length < sizeof(uint))
        {
            return false;
        }

        uint length = BinaryPrimitives.ReadUInt32BigEndian(data);
        data = data[sizeof(uint)..];
        if (length > NbdLimits.MaximumStringBytes || length > data.Length)
        {
            return false;
        }

        text = data[..(int)length];
        data = data[(int)length..];
        return true;
    }
}
