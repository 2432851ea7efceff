namespace NbdServe.Backends;

/// <summary>
/// A sparse disk in memory. Pages are taken when something other than zeroes is first written to them, and given
/// back when they are zeroed. Thread-safe; no method ever waits for more than the copy of one page.
/// </summary>
internal sealed unsafe class SparseMemory : IDisposable
{
    private const int PageBytes = PagePool.PageBytes;
    private const int LockCount = 256;

    private readonly PagePool _pool = new();
    private readonly PageTable _table;
    private readonly long _pages;

    // Each guards the entries and the content of the pages whose index ends in its own.
    private readonly Lock[] _gates = [.. Enumerable.Range(0, LockCount).Select(_ => new Lock())];

    /// <param name="sizeBytes">0 to 2^63-1.</param>
    internal SparseMemory(long sizeBytes)
    {
        SizeBytes = sizeBytes;
        _pages = (long)(((ulong)sizeBytes + PageBytes - 1) / PageBytes);
        _table = new PageTable(_pages);
    }

    internal long SizeBytes { get; }

    internal void Read(long offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            (long index, int start) = Position(offset);
            Span<byte> part = destination[..Math.Min(destination.Length, PageBytes - start)];
            ReadPage(index, start, part);
            destination = destination[part.Length..];
            offset += part.Length;
        }
    }

    internal void Write(long offset, ReadOnlySpan<byte> source)
    {
        while (source.Length > 0)
        {
            (long index, int start) = Position(offset);
            ReadOnlySpan<byte> part = source[..Math.Min(source.Length, PageBytes - start)];
            WritePage(index, start, part);
            source = source[part.Length..];
            offset += part.Length;
        }
    }

    /// <summary>Makes a range, of at least one byte, read as zeroes.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="mayRelease">Pages that hold only zeroes then are given back.</param>
    internal void Zero(long offset, long length, bool mayRelease)
    {
        long end = offset + length;
        long lastPage = (end - 1) / PageBytes;
        for (long index = Next(offset / PageBytes); index <= lastPage; index = Next(index + 1))
        {
            long pageOffset = index * PageBytes;
            int start = (int)Math.Max(0, offset - pageOffset);
            int stop = (int)Math.Min(PageBytes, end - pageOffset);
            ZeroPage(index, start, stop - start, mayRelease);
        }

        long Next(long index) => _table.NextPage(index, lastPage + 1);
    }

    /// <summary>Whether there is a page at <paramref name="offset"/>, and where that changes (at most the size).</summary>
    internal (bool IsData, long End) RunAt(long offset)
    {
        long index = offset / PageBytes;
        long data = _table.NextPage(index, _pages);
        long next = data == index ? index + 1 : data;
        return (data == index, next == _pages ? SizeBytes : next * PageBytes);
    }

    public void Dispose()
    {
        _table.Dispose();
        _pool.Dispose();
    }

    private static (long Index, int Start) Position(long offset) => (offset / PageBytes, (int)(offset % PageBytes));

    private void ReadPage(long index, int start, Span<byte> destination)
    {
        nint* entry = _table.Find(index);
        if (entry is null || Volatile.Read(ref *entry) == 0)
        {
            destination.Clear();
            return;
        }

        lock (Gate(index))
        {
            // It may have been released meanwhile.
            if (*entry == 0)
            {
                destination.Clear();
                return;
            }

            new ReadOnlySpan<byte>((byte*)*entry + start, destination.Length).CopyTo(destination);
        }
    }

    private void WritePage(long index, int start, ReadOnlySpan<byte> source)
    {
        nint* entry = _table.Find(index);
        if ((entry is null || Volatile.Read(ref *entry) == 0) && !source.ContainsAnyExcept((byte)0))
        {
            return;
        }

        entry = entry is null ? _table.FindOrAdd(index) : entry;
        lock (Gate(index))
        {
            if (*entry == 0)
            {
                Volatile.Write(ref *entry, (nint)_pool.Rent());
            }

            source.CopyTo(new Span<byte>((byte*)*entry + start, source.Length));
        }
    }

    private void ZeroPage(long index, int start, int length, bool mayRelease)
    {
        nint* entry = _table.Find(index);
        if (entry is null)
        {
            return;
        }

        lock (Gate(index))
        {
            byte* page = (byte*)*entry;
            if (page is null)
            {
                return;
            }

            if (length < PageBytes || !mayRelease)
            {
                new Span<byte>(page + start, length).Clear();
            }

            if (mayRelease
                && (length == PageBytes || !new ReadOnlySpan<byte>(page, PageBytes).ContainsAnyExcept((byte)0)))
            {
                Volatile.Write(ref *entry, 0);
                _pool.Return(page);
            }
        }
    }

    private Lock Gate(long index) => _gates[index & (LockCount - 1)];
}
