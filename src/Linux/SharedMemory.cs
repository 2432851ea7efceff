using Tmds.Linux;

namespace Linux;

/// <summary>
/// Memory without a name that can be seen at several addresses. Its pages take memory only once they are touched.
/// Thread-safe.
/// </summary>
public sealed unsafe class SharedMemory : IDisposable
{
    private readonly SafeFd _fd;

    /// <summary>Reserves memory.</summary>
    /// <param name="name">Shown in /proc/PID/maps.</param>
    /// <param name="lengthBytes">More than is ever used costs nothing.</param>
    /// <exception cref="LinuxException">memfd_create(2) or ftruncate(2) failed.</exception>
    public SharedMemory(string name, long lengthBytes)
    {
        fixed (byte* bytes = NativeStrings.Terminated(name))
        {
            int fd = LibC.memfd_create(bytes, LibC.MFD_CLOEXEC);
            _fd = fd < 0 ? throw LinuxException.FromLastError("memfd_create") : new SafeFd(fd);
        }

        if (LibC.ftruncate(_fd.Fd, lengthBytes) < 0)
        {
            LinuxException exception = LinuxException.FromLastError($"reserve {lengthBytes} bytes of shared memory");
            _fd.Dispose();
            throw exception;
        }
    }

    /// <summary>Shows a part of the memory.</summary>
    /// <param name="offset">A multiple of the page size.</param>
    /// <param name="length">A multiple of the page size.</param>
    /// <param name="address">Where to show it, in the place of what is there now; null for anywhere.</param>
    /// <exception cref="LinuxException">mmap(2) failed (ENOMEM).</exception>
    public byte* Map(long offset, int length, byte* address)
    {
        void* mapped = LibC.mmap(
            address,
            length,
            LibC.PROT_READ | LibC.PROT_WRITE,
            LibC.MAP_SHARED | LibC.MAP_NORESERVE | (address is null ? 0 : LibC.MAP_FIXED),
            _fd.Fd,
            offset);
        return mapped != LibC.MAP_FAILED
            ? (byte*)mapped
            : throw LinuxException.FromLastError($"mmap of {length} bytes of shared memory");
    }

    /// <summary>
    /// Sends a part to a stream socket with sendfile(2). Since Linux 6.5 the socket refers to the pages instead of copying
    /// them: they must stay as they are until the other end has read them.
    /// </summary>
    /// <param name="socket">If it has no room, and is not non-blocking, this waits.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>Bytes that the socket took, perhaps fewer; -1 and errno.</returns>
    public nint SendTo(int socket, long offset, nint length) => Interop.sendfile(socket, _fd.Fd, &offset, length);

    /// <summary>
    /// Puts fresh pages, all zeroes, in the place of those of a part, wherever it is mapped. Who refers to the old ones
    /// keeps them as they are.
    /// </summary>
    /// <param name="offset">First byte, a multiple of the page size.</param>
    /// <param name="length">Bytes, rounded up to whole pages.</param>
    public void Replace(long offset, long length)
    {
        long pageMask = Environment.SystemPageSize - 1;
        bool isOpen = false;
        try
        {
            _fd.DangerousAddRef(ref isOpen);
            _ = LibC.fallocate(
                _fd.Fd,
                LibC.FALLOC_FL_PUNCH_HOLE | LibC.FALLOC_FL_KEEP_SIZE,
                offset,
                (length + pageMask) & ~pageMask);
        }
        catch (ObjectDisposedException)
        {
            // Then no part of it is used again.
        }
        finally
        {
            if (isOpen)
            {
                _fd.DangerousRelease();
            }
        }
    }

    /// <summary>What is mapped stays.</summary>
    public void Dispose() => _fd.Dispose();
}
