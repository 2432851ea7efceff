using System.Text;
using Linux;
using Tmds.Linux;

namespace Exerciser;

/// <summary>
/// One open file by its system calls. Results below zero are negated error numbers. Thread-safe as descriptors are.
/// </summary>
internal sealed unsafe class DiskFile : IDisposable
{
    public const int ZeroRange = FileCalls.FALLOC_FL_ZERO_RANGE;

    private readonly int _fd;

    private DiskFile(string path, int flags)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            _fd = LibC.open(name, flags | LibC.O_CLOEXEC, 0);
        }

        if (_fd < 0)
        {
            throw LinuxException.FromLastError($"open {path}");
        }
    }

    public static DiskFile Open(string path, int flags) => new(path, flags);

    public long SizeBytes => Seek(0, LibC.SEEK_END);

    /// <summary>pread(2) of all of <paramref name="destination"/>, which is page aligned when the file wants that.</summary>
    public long Read(byte* destination, int length, long offset) => Result(LibC.pread(_fd, destination, length, offset));

    public long Read(Span<byte> destination, long offset)
    {
        fixed (byte* start = destination)
        {
            return Read(start, destination.Length, offset);
        }
    }

    public long Write(byte* source, int length, long offset) => Result(LibC.pwrite(_fd, source, length, offset));

    /// <summary>write(2): at the position of the descriptor, or at the end with O_APPEND.</summary>
    public long Append(byte* source, int length) => Result(LibC.write(_fd, source, length));

    public long Sync(bool dataOnly) => Result(dataOnly ? LibC.fdatasync(_fd) : LibC.fsync(_fd));

    public long Allocate(int mode, ByteRange range) => Result(LibC.fallocate(_fd, mode, range.Offset, range.Length));

    public long Truncate(long length) => Result(LibC.ftruncate(_fd, length));

    public long Seek(long offset, int whence) => Result(LibC.lseek(_fd, offset, whence));

    /// <summary>Lets the kernel forget what it has cached of the range.</summary>
    public void Forget(ByteRange range) =>
        _ = LibC.posix_fadvise(_fd, range.Offset, range.Length, LibC.POSIX_FADV_DONTNEED);

    public long CopyTo(DiskFile other, long from, long to, int length) =>
        Result(FileCalls.CopyRange(_fd, from, other._fd, to, length));

    /// <summary>The whole file as shared memory, for ever.</summary>
    public byte* Map(int length)
    {
        void* memory = LibC.mmap(null, length, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, _fd, 0);
        if (memory == LibC.MAP_FAILED)
        {
            throw LinuxException.FromLastError("mmap");
        }

        // No read-around: a page that one thread reads must not bring in those that another writes.
        _ = LibC.madvise(memory, length, LibC.MADV_RANDOM);
        return (byte*)memory;
    }

    public static long SyncMapped(byte* start, long length) =>
        Result(LibC.msync(start, checked((int)length), LibC.MS_SYNC));

    public void Dispose() => _ = LibC.close(_fd);

    private static long Result(long value) => value >= 0 ? value : -(long)LinuxException.LastErrno;
}
