using Nbd;

namespace NbdServe.Backends;

/// <summary>
/// A sparse disk in memory. Pages are taken when something other than zeroes is first written to them or when they
/// are reserved, and given back when they are zeroed. Thread-safe; no method ever waits for more than the copy of one
/// page.
/// </summary>
internal sealed unsafe class SparseMemory : IDisposable
{
    private const int PageBytes = PagePool.PageBytes;
    private const int LockCount = 256;

    // In the entry of a page that is known to hold only zeroes; pages are aligned.
    private const nint ZeroMark = 1;

    // What is reserved and written is memory.
    private static readonly long s_maximumReserved = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / PageBytes;

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

    /// <summary>Makes a range, of at least one byte, read as zeroes; pages that hold nothing else are given back.</summary>
    internal void Release(long offset, long length)
    {
        long end = offset + length;
        long lastPage = (end - 1) / PageBytes;
        for (long index = Next(offset / PageBytes); index <= lastPage; index = Next(index + 1))
        {
            (int start, int count) = Part(index, offset, end);
            ReleasePage(index, start, count);
        }

        long Next(long index) => _table.NextPage(index, lastPage + 1);
    }

    /// <summary>Makes a range, of at least one byte, read as zeroes, and gives all of it pages.</summary>
    /// <exception cref="Linux.LinuxException">More than the memory of this machine would be reserved (ENOSPC).</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    internal void Reserve(long offset, long length, CancellationToken cancellationToken)
    {
        long end = offset + length;
        long lastPage = (end - 1) / PageBytes;
        for (long index = offset / PageBytes; index <= lastPage; index++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            (int start, int count) = Part(index, offset, end);
            ReservePage(index, start, count);
        }
    }

    /// <summary>What is at <paramref name="offset"/>, and where that may change (at most the size).</summary>
    internal (NbdExtentFlags Flags, long End) RunAt(long offset)
    {
        long index = offset / PageBytes;
        long page = _table.NextPage(index, _pages);
        if (page > index)
        {
            return (ExtentRuns.Nothing, page == _pages ? SizeBytes : page * PageBytes);
        }

        nint* entry = _table.Find(index);
        nint content = entry is null ? 0 : Volatile.Read(ref *entry);
        long end = index + 1 == _pages ? SizeBytes : (index + 1) * PageBytes;
        return (content == 0 ? ExtentRuns.Nothing
            : (content & ZeroMark) != 0 ? NbdExtentFlags.Zero
            : NbdExtentFlags.Data, end);
    }

    public void Dispose()
    {
        _table.Dispose();
        _pool.Dispose();
    }

    private static (long Index, int Start) Position(long offset) => (offset / PageBytes, (int)(offset % PageBytes));

    /// <summary>The part of a page that lies in a range.</summary>
    private static (int Start, int Count) Part(long index, long offset, long end)
    {
        long pageOffset = index * PageBytes;
        int start = (int)Math.Max(0, offset - pageOffset);
        return (start, (int)Math.Min(PageBytes, end - pageOffset) - start);
    }

    private static bool HasData(nint* entry) =>
        entry is not null && Volatile.Read(ref *entry) is nint content && content != 0 && (content & ZeroMark) == 0;

    private void ReadPage(long index, int start, Span<byte> destination)
    {
        nint* entry = _table.Find(index);
        if (!HasData(entry))
        {
            destination.Clear();
            return;
        }

        lock (Gate(index))
        {
            // It may have been released meanwhile.
            if (!HasData(entry))
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
        if (!HasData(entry) && !source.ContainsAnyExcept((byte)0))
        {
            return;
        }

        entry = entry is null ? _table.FindOrAdd(index) : entry;
        lock (Gate(index))
        {
            if (!HasData(entry))
            {
                nint page = *entry == 0 ? (nint)_pool.Rent() : *entry & ~ZeroMark;
                Volatile.Write(ref *entry, page);
            }

            source.CopyTo(new Span<byte>((byte*)*entry + start, source.Length));
        }
    }

    private void ReleasePage(long index, int start, int count)
    {
        nint* entry = _table.Find(index);
        if (entry is null)
        {
            return;
        }

        lock (Gate(index))
        {
            if (*entry != 0 && ClearPart(entry, start, count))
            {
                byte* page = (byte*)(*entry & ~ZeroMark);
                Volatile.Write(ref *entry, 0);
                _pool.Return(page);
            }
        }
    }

    private void ReservePage(long index, int start, int count)
    {
        nint* entry = _table.FindOrAdd(index);
        lock (Gate(index))
        {
            if (*entry == 0)
            {
                Volatile.Write(ref *entry, (nint)_pool.Rent(s_maximumReserved) | ZeroMark);
            }
            else if (ClearPart(entry, start, count))
            {
                Volatile.Write(ref *entry, *entry | ZeroMark);
            }
        }
    }

    /// <summary>Zeroes a part of a page that is there.</summary>
    /// <returns>Whether all of the page is zeroes then.</returns>
    private static bool ClearPart(nint* entry, int start, int count)
    {
        if ((*entry & ZeroMark) != 0)
        {
            return true;
        }

        Span<byte> page = new((byte*)*entry, PageBytes);
        page.Slice(start, count).Clear();
        return count == PageBytes || !page.ContainsAnyExcept((byte)0);
    }

    private Lock Gate(long index) => _gates[index & (LockCount - 1)];
}
