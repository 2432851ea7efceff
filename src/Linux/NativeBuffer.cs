using System.Runtime.InteropServices;
using Tmds.Linux;

namespace Linux;

/// <summary>
/// Page-aligned memory outside the garbage collected heap. Its pages take memory only once they are touched.
/// Not thread-safe: it has one owner at a time.
/// </summary>
public sealed unsafe class NativeBuffer : SafeHandle
{
    private readonly bool _isShared;

    /// <summary>Reserves <paramref name="lengthBytes"/> bytes, rounded up to whole pages.</summary>
    /// <exception cref="LinuxException">mmap(2) failed (ENOMEM).</exception>
    public NativeBuffer(int lengthBytes)
        : base(-1, ownsHandle: true)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(lengthBytes);
        int pageSize = Environment.SystemPageSize;
        Length = (int)(((long)lengthBytes + pageSize - 1) / pageSize * pageSize);
        void* address = LibC.mmap(
            null,
            Length,
            LibC.PROT_READ | LibC.PROT_WRITE,
            LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE,
            -1,
            0);
        if (address == LibC.MAP_FAILED)
        {
            throw LinuxException.FromLastError($"mmap of {Length} bytes");
        }

        SetHandle((nint)address);
    }

    /// <summary>Maps a part of a shared memory.</summary>
    /// <param name="memory">May be disposed before this object.</param>
    /// <param name="offset">Where the part starts: a multiple of the page size.</param>
    /// <param name="lengthBytes">A multiple of the page size.</param>
    /// <exception cref="LinuxException">mmap(2) failed (ENOMEM).</exception>
    public NativeBuffer(SharedMemory memory, long offset, int lengthBytes)
        : base(-1, ownsHandle: true)
    {
        ArgumentNullException.ThrowIfNull(memory);
        _isShared = true;
        Length = lengthBytes;
        SetHandle((nint)memory.Map(offset, lengthBytes, null));
    }

    /// <summary>Length in bytes, a multiple of the page size.</summary>
    public int Length { get; }

    /// <summary>The first byte. Valid until this object is disposed.</summary>
    public byte* Start => (byte*)handle;

    /// <inheritdoc/>
    public override bool IsInvalid => handle == -1;

    /// <summary>
    /// Gives the memory of all pages from <paramref name="offset"/> (a multiple of the page size) back to the
    /// system. The range stays usable and reads as zeroes.
    /// </summary>
    public void Decommit(int offset)
    {
        if (offset < Length)
        {
            // Of shared memory DONTNEED would only forget the address.
            _ = LibC.madvise(
                Start + offset, Length - offset, _isShared ? LibC.MADV_REMOVE : LibC.MADV_DONTNEED);
        }
    }

    /// <summary>Gives the memory of a range of whole pages back. It stays usable and reads as zeroes.</summary>
    /// <param name="start">First byte, at a page boundary of a buffer.</param>
    /// <param name="length">Bytes, a multiple of the page size.</param>
    public static void Decommit(byte* start, int length) => _ = LibC.madvise(start, length, LibC.MADV_DONTNEED);

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => LibC.munmap((void*)handle, Length) == 0;
}
