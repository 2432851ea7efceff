using System.Diagnostics;
using System.Text;
using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdServe.Backends;

/// <summary>
/// A raw file or a block device, with calls that wait. Their errors are exceptions that name the file. Thread-safe.
/// </summary>
internal sealed unsafe class OpenFile : IDisposable
{
    private static readonly byte[] s_zeroes = new byte[256 * 1024];

    // A write that took longer has waited for the disk (not only for a processor), and the next ones will.
    private static readonly long s_slowTicks = Stopwatch.Frequency / 50;
    private static readonly long s_slownessTicks = Stopwatch.Frequency;

    private readonly string _path;

    // The timestamp until which writes are expected to wait. A lost update only costs a wait.
    private long _slowUntil;

    // The data that was found last. It may have become a hole meanwhile: to call that data is right, if not the best.
    private volatile DataRun? _lastData;

    private OpenFile(string path, SafeFd fd)
    {
        (_path, Fd) = (path, fd);
    }

    internal SafeFd Fd { get; }

    internal long SizeBytes { get; private set; }

    internal bool IsReadOnly { get; private init; }

    /// <summary>Best size for reading and writing, in bytes.</summary>
    internal int BlockBytes { get; private set; }

    /// <summary>Whether a write waited for the disk within the last second, as when too many pages are dirty.</summary>
    internal bool IsSlow => Stopwatch.GetTimestamp() < Volatile.Read(ref _slowUntil);

    internal bool IsRotational { get; private set; }

    private bool IsBlockDevice { get; set; }

    /// <summary>Opens what exists.</summary>
    /// <exception cref="LinuxException">It cannot be opened, or is neither a file nor a block device.</exception>
    internal static OpenFile Open(string path, bool isReadOnly)
    {
        RefuseOthers(path);
        OpenFile file = new(path, OpenFd(path, isReadOnly ? LibC.O_RDONLY : LibC.O_RDWR, $"open {path}"))
        {
            IsReadOnly = isReadOnly,
        };
        try
        {
            file.Inspect();
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Makes a file that is one hole. What exists is never changed.</summary>
    /// <exception cref="LinuxException">It exists (EEXIST), or cannot be made.</exception>
    internal static void Create(string path, long sizeBytes)
    {
        using SafeFd fd = OpenFd(path, LibC.O_RDWR | LibC.O_CREAT | LibC.O_EXCL, $"create {path}");
        if (LibC.ftruncate(fd.Fd, sizeBytes) < 0)
        {
            LinuxException exception = LinuxException.FromLastError($"create {path} with {sizeBytes} bytes");
            File.Delete(path);
            throw exception;
        }
    }

    internal void Read(long offset, Span<byte> destination)
    {
        fixed (byte* start = destination)
        {
            for (int done = 0; done < destination.Length;)
            {
                nint got = (nint)LibC.pread(Fd.Fd, start + done, destination.Length - done, offset + done);
                if (got > 0)
                {
                    done += (int)got;
                }
                else if (got == 0)
                {
                    throw new LinuxException($"read {_path} at offset {offset + done}: it has become shorter", Errno.EIO);
                }
                else
                {
                    ThrowUnlessInterrupted("read", offset + done);
                }
            }
        }
    }

    internal void Write(long offset, ReadOnlySpan<byte> source)
    {
        long begin = Stopwatch.GetTimestamp();
        fixed (byte* start = source)
        {
            for (int done = 0; done < source.Length;)
            {
                nint put = (nint)LibC.pwrite(Fd.Fd, start + done, source.Length - done, offset + done);
                if (put >= 0)
                {
                    done += (int)put;
                }
                else
                {
                    ThrowUnlessInterrupted("write", offset + done);
                }
            }
        }

        long end = Stopwatch.GetTimestamp();
        if (end - begin > s_slowTicks)
        {
            Volatile.Write(ref _slowUntil, end + s_slownessTicks);
        }
    }

    internal void Flush()
    {
        while (LibC.fdatasync(Fd.Fd) < 0)
        {
            ThrowUnlessInterrupted("flush", 0);
        }
    }

    /// <summary>A file system that cannot make holes keeps the data, which a trim allows.</summary>
    internal void Trim(long offset, long length) =>
        _ = TryAllocate(LibC.FALLOC_FL_PUNCH_HOLE, offset, length);

    /// <summary>Makes a range read as zeroes by the cheapest way that the options allow.</summary>
    /// <exception cref="NotSupportedException">There is no fast way, and the options want one.</exception>
    internal void Zero(long offset, long length, NbdZeroOptions options, CancellationToken cancellationToken)
    {
        bool mayPunch = !options.HasFlag(NbdZeroOptions.NoHole);
        bool isFast = options.HasFlag(NbdZeroOptions.Fast);
        if (mayPunch && TryAllocate(LibC.FALLOC_FL_PUNCH_HOLE, offset, length))
        {
            return;
        }

        // On a block device the kernel may write zeroes for it.
        if (!(isFast && IsBlockDevice) && TryAllocate(FileCalls.FALLOC_FL_ZERO_RANGE, offset, length))
        {
            return;
        }

        if (isFast)
        {
            throw new NotSupportedException($"{_path} has no fast way to write zeroes");
        }

        for (long end = offset + length; offset < end;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int part = (int)Math.Min(end - offset, s_zeroes.Length);
            Write(offset, s_zeroes.AsSpan(0, part));
            offset += part;
        }
    }

    /// <summary>
    /// Whether an offset is in data or a hole, and where that changes (at most the size), as the file system knows it;
    /// all data if it does not.
    /// </summary>
    internal (NbdExtentFlags Flags, long End) RunAt(long offset)
    {
        DataRun? last = _lastData;
        if (last is not null && offset >= last.Start && offset < last.End)
        {
            return (NbdExtentFlags.Data, last.End);
        }

        long data = Seek(offset, FileCalls.SEEK_DATA);
        if (data > offset)
        {
            return (ExtentRuns.Nothing, data);
        }

        long hole = Seek(offset, FileCalls.SEEK_HOLE);
        hole = hole > offset ? hole : SizeBytes;
        _lastData = new DataRun(offset, hole);
        return (NbdExtentFlags.Data, hole);
    }

    public void Dispose() => Fd.Dispose();

    private static SafeFd OpenFd(string path, int flags, string what)
    {
        fixed (byte* terminated = Encoding.UTF8.GetBytes(path + "\0"))
        {
            int fd = LibC.open(terminated, flags | LibC.O_CLOEXEC, (ushort)0x1b6);
            return fd >= 0 ? new SafeFd(fd) : throw LinuxException.FromLastError(what);
        }
    }

    /// <summary>Before it is opened: whoever opens a pipe waits for its other end.</summary>
    private static void RefuseOthers(string path)
    {
        fixed (byte* terminated = Encoding.UTF8.GetBytes(path + "\0"))
        {
            stat status;
            if (LibC.stat(terminated, &status) == 0 && !Is(status, LibC.S_IFREG) && !Is(status, LibC.S_IFBLK))
            {
                throw new LinuxException($"{path} is neither a regular file nor a block device", Errno.EINVAL);
            }
        }
    }

    private static bool Is(in stat status, mode_t type) => (status.st_mode & LibC.S_IFMT) == type;

    private void Inspect()
    {
        stat status;
        if (LibC.fstat(Fd.Fd, &status) < 0)
        {
            throw LinuxException.FromLastError($"inspect {_path}");
        }

        BlockBytes = (int)(long)status.st_blksize;
        IsBlockDevice = Is(status, LibC.S_IFBLK);
        if (IsBlockDevice)
        {
            if (!IsReadOnly && FileCalls.IsBlockDeviceReadOnly(Fd.Fd))
            {
                throw new LinuxException($"open {_path} for writing (it can be served with --readonly)", Errno.EROFS);
            }

            SizeBytes = FileCalls.BlockDeviceBytes(Fd.Fd, _path);
            IsRotational = ReadRotational((ulong)status.st_rdev);
        }
        else
        {
            SizeBytes = (long)status.st_size;
        }
    }

    private static bool ReadRotational(ulong device)
    {
        // dev_t as makedev(3) builds it.
        ulong major = ((device >> 8) & 0xfff) | ((device >> 32) & ~0xfffUL);
        ulong minor = (device & 0xff) | ((device >> 12) & ~0xffUL & 0xffffffff);
        try
        {
            return File.ReadAllText($"/sys/dev/block/{major}:{minor}/queue/rotational").Trim() == "1";
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <returns>False when the file system, the device or the alignment does not allow it.</returns>
    private bool TryAllocate(int mode, long offset, long length)
    {
        while (LibC.fallocate(Fd.Fd, mode | LibC.FALLOC_FL_KEEP_SIZE, offset, length) < 0)
        {
            if (LinuxException.LastErrno is Errno.EOPNOTSUPP or Errno.ENOSYS or Errno.EINVAL or Errno.ENODEV)
            {
                return false;
            }

            ThrowUnlessInterrupted("zero", offset);
        }

        _lastData = null;
        return true;
    }

    private long Seek(long offset, int whence)
    {
        long found = (long)LibC.lseek(Fd.Fd, offset, whence);
        if (found >= 0)
        {
            return Math.Min(found, SizeBytes);
        }

        // ENXIO: nothing but a hole follows. Anything else: the file system does not know, so it is all data.
        return whence == FileCalls.SEEK_DATA && LinuxException.LastErrno == Errno.ENXIO ? SizeBytes : offset;
    }

    private void ThrowUnlessInterrupted(string what, long offset)
    {
        Errno errno = LinuxException.LastErrno;
        if (errno != Errno.EINTR)
        {
            throw new LinuxException($"{what} {_path} at offset {offset}", errno);
        }
    }

    private sealed record DataRun(long Start, long End);
}
