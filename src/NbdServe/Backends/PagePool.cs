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

    // Guards the slabs, the free pages and the place of the next page in the last slab.
    private readonly Lock _gate = new();
    private readonly List<NativeBuffer> _slabs = [];
    private readonly Stack<nint> _free = new();
    private int _nextOffset = SlabBytes;

    /// <summary>A page that reads as zeroes.</summary>
    /// <exception cref="LinuxException">The address space is used up (ENOMEM).</exception>
    internal byte* Rent()
    {
        lock (_gate)
        {
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
        }
    }

    public void Dispose() => _slabs.ForEach(slab => slab.Dispose());
}
