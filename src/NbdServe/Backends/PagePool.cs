using Linux;

namespace NbdServe.Backends;

/// <summary>
/// Pages of 64 KiB outside the garbage collected heap, zeroed. Returned pages give their memory back to the system
/// and keep their place in the address space for the next renter. Thread-safe.
/// </summary>
internal sealed unsafe class PagePool : IDisposable
{
    internal const int PageBytes = 64 * 1024;

    private const int SlabBytes = 64 * 1024 * 1024;

    // Guards the slabs, the free pages, the place of the next page in the last slab and how many are rented.
    private readonly Lock _gate = new();
    private readonly List<NativeBuffer> _slabs = [];
    private readonly Stack<nint> _free = new();
    private int _nextOffset = SlabBytes;
    private long _rented;

    /// <summary>A page that reads as zeroes.</summary>
    /// <param name="maximum">
    /// Most pages that may be rented then: a page takes memory only once it is written, so that asking is free.
    /// </param>
    /// <exception cref="LinuxException">
    /// There are <paramref name="maximum"/> already (ENOSPC), or the address space is used up (ENOMEM).
    /// </exception>
    internal byte* Rent(long maximum = long.MaxValue)
    {
        lock (_gate)
        {
            if (_rented >= maximum)
            {
                throw new LinuxException($"reserve more than {maximum} pages of {PageBytes} bytes", Errno.ENOSPC);
            }

            _rented++;
            if (_free.TryPop(out nint page))
            {
                return (byte*)page;
            }

            if (_nextOffset == SlabBytes)
            {
                _slabs.Add(new NativeBuffer(SlabBytes));
                _nextOffset = 0;
            }

            byte* next = _slabs[^1].Start + _nextOffset;
            _nextOffset += PageBytes;
            return next;
        }
    }

    internal void Return(byte* page)
    {
        NativeBuffer.Decommit(page, PageBytes);
        lock (_gate)
        {
            _free.Push((nint)page);
            _rented--;
        }
    }

    public void Dispose() => _slabs.ForEach(slab => slab.Dispose());
}
