namespace Exerciser;

/// <summary>The file is not what it must be.</summary>
internal sealed class MismatchException(string message, long? offset = null) : Exception(message)
{
    public long? Offset => offset;
}

/// <summary>
/// What the file must contain. Not thread-safe by itself: a thread touches only what it holds in
/// <see cref="RangeLocks"/>.
/// </summary>
internal sealed class Model(byte[] content)
{
    private const int PageBytes = 4096;

    // Pages written through the mapping and not synced since: the server need not know of them.
    private readonly bool[] _unsynced = new bool[(content.Length / PageBytes) + 1];

    public int SizeBytes => content.Length;

    public ReadOnlySpan<byte> Content => content;

    public ReadOnlySpan<byte> At(ByteRange range) => content.AsSpan((int)range.Offset, range.Within(SizeBytes));

    public void Write(long offset, ReadOnlySpan<byte> data) => data.CopyTo(content.AsSpan((int)offset));

    public void Zero(ByteRange range)
    {
        if (range.Within(SizeBytes) is int length and > 0)
        {
            content.AsSpan((int)range.Offset, length).Clear();
        }
    }

    public void MarkUnsynced(ByteRange range, bool value) => Pages(range).Fill(value);

    public bool IsSynced(ByteRange range) => !Pages(range).Contains(true);

    /// <summary>Throws when <paramref name="actual"/>, found at <paramref name="offset"/>, is not what it must be.</summary>
    public void Check(string what, long offset, ReadOnlySpan<byte> actual)
    {
        ReadOnlySpan<byte> expected = content.AsSpan((int)offset, actual.Length);
        int first = expected.CommonPrefixLength(actual);
        if (first == actual.Length)
        {
            return;
        }

        int wrong = 0;
        int last = first;
        for (int i = first; i < actual.Length; i++)
        {
            if (expected[i] != actual[i])
            {
                wrong++;
                last = i;
            }
        }

        int shown = Math.Min(16, actual.Length - first);
        throw new MismatchException(
            $"{what}: {wrong} wrong bytes from 0x{offset + first:x} to 0x{offset + last:x}: "
                + $"expected {Convert.ToHexString(expected.Slice(first, shown))}..., found {Convert.ToHexString(actual.Slice(first, shown))}...",
            offset + first);
    }

    private Span<bool> Pages(ByteRange range)
    {
        int first = (int)Math.Min(range.Offset / PageBytes, _unsynced.Length - 1);
        int last = (int)Math.Min((Math.Max(range.End, range.Offset + 1) - 1) / PageBytes, _unsynced.Length - 1);
        return _unsynced.AsSpan(first, last - first + 1);
    }
}
