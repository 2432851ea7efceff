using System.Text;
using Linux;
using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>
/// A file by its system calls, so that tests see exact counts and error numbers. Results below zero are negated
/// error numbers. Buffers are page aligned, as O_DIRECT wants.
/// </summary>
internal sealed unsafe class RawFile : IDisposable
{
    public const int SeekData = FileCalls.SEEK_DATA;
    public const int SeekHole = FileCalls.SEEK_HOLE;

    private readonly int _fd;

    private RawFile(int fd) => _fd = fd;

    public static RawFile Open(string path, int flags)
    {
        int fd = TryOpen(path, flags);
        return fd >= 0 ? new(fd) : throw new LinuxException($"open {path}", (Errno)(-fd));
    }

    /// <summary>The error number of open(2), negated; 0 when it succeeded (and was closed again).</summary>
    public static int OpenError(string path, int flags)
    {
        int fd = TryOpen(path, flags);
        if (fd < 0)
        {
            return fd;
        }

        _ = LibC.close(fd);
        return 0;
    }

    public byte[] Read(long offset, int length)
    {
        using NativeBuffer buffer = new(length);
        long count = Result(LibC.pread(_fd, buffer.Start, length, offset));
        return count >= 0
            ? new Span<byte>(buffer.Start, (int)count).ToArray()
            : throw new LinuxException($"read of {length} bytes at {offset}", (Errno)(-count));
    }

    public long Write(long offset, ReadOnlySpan<byte> data)
    {
        using NativeBuffer buffer = new(data.Length);
        data.CopyTo(new Span<byte>(buffer.Start, data.Length));
        return Result(LibC.pwrite(_fd, buffer.Start, data.Length, offset));
    }

    public long Fsync() => Result(LibC.fsync(_fd));

    public long Fdatasync() => Result(LibC.fdatasync(_fd));

    public long Fallocate(int mode, long offset, long length) => Result(LibC.fallocate(_fd, mode, offset, length));

    /// <summary>One copy_file_range(2).</summary>
    public long CopyTo(RawFile destination, long offset, long destinationOffset, long length) =>
        Result(FileCalls.CopyRange(_fd, offset, destination._fd, destinationOffset, (nint)length));

    public long Truncate(long length) => Result(LibC.ftruncate(_fd, length));

    /// <summary>Puts <paramref name="data"/> at <paramref name="offset"/> (a multiple of the page size) through a shared mapping.</summary>
    public void WriteMapped(long offset, ReadOnlySpan<byte> data)
    {
        void* memory = LibC.mmap(null, data.Length, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, _fd, offset);
        if (memory == LibC.MAP_FAILED)
        {
            throw LinuxException.FromLastError("mmap");
        }

        data.CopyTo(new Span<byte>(memory, data.Length));
        long synced = Result(LibC.msync(memory, data.Length, LibC.MS_SYNC));
        _ = LibC.munmap(memory, data.Length);
        Assert.Equal(0, synced);
    }

    /// <summary>The bytes at <paramref name="offset"/> through a shared mapping.</summary>
    public byte[] ReadMapped(long offset, int length)
    {
        void* memory = LibC.mmap(null, length, LibC.PROT_READ, LibC.MAP_SHARED, _fd, offset);
        if (memory == LibC.MAP_FAILED)
        {
            throw LinuxException.FromLastError("mmap");
        }

        byte[] data = new Span<byte>(memory, length).ToArray();
        _ = LibC.munmap(memory, length);
        return data;
    }

    public long Seek(long offset, int whence) => Result(LibC.lseek(_fd, offset, whence));

    /// <summary>A part of the file as shared memory, from a multiple of the page size on.</summary>
    public MappedPages MapPages(long offset, int length)
    {
        void* memory = LibC.mmap(null, length, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, _fd, offset);
        return memory == LibC.MAP_FAILED ? throw LinuxException.FromLastError("mmap") : new((byte*)memory, length);
    }

    public void Dispose() => _ = LibC.close(_fd);

    private static int TryOpen(string path, int flags)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            return (int)Result(LibC.open(name, flags | LibC.O_CLOEXEC, 0));
        }
    }

    private static long Result(long value) => value >= 0 ? value : -(long)LinuxException.LastErrno;
}
