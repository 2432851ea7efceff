using Tmds.Linux;

namespace Linux;

/// <summary>System calls on files that Tmds.LibC lacks, with its conventions. Thread-safe.</summary>
public static unsafe class FileCalls
{
    /// <summary>fallocate(2): zeroes a range and keeps it allocated.</summary>
    public const int FALLOC_FL_ZERO_RANGE = 0x10;

    /// <summary>lseek(2): the next data.</summary>
    public const int SEEK_DATA = 3;

    /// <summary>lseek(2): the next hole, or the end of the file.</summary>
    public const int SEEK_HOLE = 4;

    private const int BLKGETSIZE64 = unchecked((int)0x80081272);
    private const int BLKROGET = 0x125e;

    /// <summary>
    /// preadv2(2) with RWF_NOWAIT: reads what can be had without waiting for the disk.
    /// </summary>
    /// <returns>
    /// Bytes read, perhaps fewer than asked for, 0 at the end of the file; -1 with EAGAIN when it would wait, with
    /// EOPNOTSUPP when the file system cannot tell.
    /// </returns>
    public static nint ReadNoWait(int fd, byte* destination, nint length, long offset)
    {
        iovec vector = new() { iov_base = destination, iov_len = (size_t)(ulong)length };
        return Interop.preadv2(fd, &vector, 1, offset, Interop.RWF_NOWAIT);
    }

    /// <summary>copy_file_range(2).</summary>
    /// <returns>Bytes copied, perhaps fewer than asked for; -1 and errno.</returns>
    public static nint CopyRange(int source, long sourceOffset, int destination, long destinationOffset, nint length) =>
        Interop.copy_file_range(source, &sourceOffset, destination, &destinationOffset, length, 0);

    /// <summary>
    /// sync_file_range(2): has the kernel write what is dirty of a range, and waits until that is done. Data only; the
    /// file's inode is not locked.
    /// </summary>
    /// <returns>0, or -1.</returns>
    public static int WriteBack(int fd, long offset, long length) =>
        Interop.sync_file_range(fd, offset, length, Interop.SYNC_FILE_RANGE_WRITE_AND_WAIT);

    /// <summary>writev(2): writes several pieces of memory, one after the other, in one call.</summary>
    /// <returns>Bytes written, or -1.</returns>
    public static nint Write(int fd, iovec* parts, int count) => Interop.writev(fd, parts, count);

    /// <summary>
    /// statx(2) with AT_STATX_FORCE_SYNC, for the question alone whether it succeeds: the file system is asked, not
    /// what the kernel remembers.
    /// </summary>
    /// <returns>None or the error.</returns>
    public static Errno StatNow(byte* path)
    {
        const int StatxBytes = 256;
        byte* status = stackalloc byte[StatxBytes];
        return Interop.statx(Interop.AT_FDCWD, path, Interop.AT_STATX_FORCE_SYNC, Interop.STATX_BASIC_STATS, status) < 0
            ? LinuxException.LastErrno
            : Errno.None;
    }

    /// <summary>The size of a block device in bytes.</summary>
    /// <exception cref="LinuxException">It is none (ENOTTY).</exception>
    public static long BlockDeviceBytes(int fd, string path)
    {
        ulong bytes = 0;
        return LibC.ioctl(fd, BLKGETSIZE64, &bytes) == 0
            ? checked((long)bytes)
            : throw LinuxException.FromLastError($"size of {path}");
    }

    /// <summary>Whether a block device is read-only: root can open it for writing nevertheless.</summary>
    public static bool IsBlockDeviceReadOnly(int fd)
    {
        int isReadOnly = 0;
        return LibC.ioctl(fd, BLKROGET, &isReadOnly) == 0 && isReadOnly != 0;
    }
}
