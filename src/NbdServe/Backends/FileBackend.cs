using System.Numerics;
using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdServe.Backends;

/// <summary>
/// A raw file or a block device that all connections share. What the page cache holds or
/// takes is read and written on the caller's thread; what would wait for the disk goes to the thread pool. Thread-safe.
/// </summary>
internal sealed unsafe class FileBackend : NbdBackend
{
    private const int LargestPreferredBlockBytes = 64 * 1024;

    private readonly OpenFile _file;
    private readonly FileOperationPool _operations;

    // Made once: reads ask for extents too.
    private readonly Func<long, (NbdExtentFlags Flags, long End)> _runAt;

    // Until the file system says that it cannot tell whether a read would wait.
    private volatile bool _canReadNoWait = true;

    /// <param name="file">Stays open as long as the backend is used.</param>
    /// <param name="operations">For the same file.</param>
    internal FileBackend(OpenFile file, FileOperationPool operations)
    {
        (_file, _operations, _runAt) = (file, operations, file.RunAt);
    }

    public override long SizeBytes => _file.SizeBytes;

    public override NbdBackendCapabilities Capabilities =>
        NbdBackendCapabilities.MultiConn | NbdBackendCapabilities.Extents | NbdBackendCapabilities.Cache
        | (_file.IsRotational ? NbdBackendCapabilities.Rotational : NbdBackendCapabilities.None)
        | (_file.IsReadOnly
            ? NbdBackendCapabilities.ReadOnly
            : NbdBackendCapabilities.Flush | NbdBackendCapabilities.ForceUnitAccess | NbdBackendCapabilities.Trim
                | NbdBackendCapabilities.WriteZeroes | NbdBackendCapabilities.FastZero);

    public override int PreferredBlockBytes =>
        (int)BitOperations.RoundUpToPowerOf2((uint)Math.Clamp(_file.BlockBytes, 512, LargestPreferredBlockBytes));

    public override string Description => "file";

    public override ValueTask ReadAsync(
        long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        if (_canReadNoWait)
        {
            int done = ReadNoWait(offset, destination.Span);
            if (done == destination.Length)
            {
                return ValueTask.CompletedTask;
            }

            offset += done;
            destination = destination[done..];
        }

        return _operations.ReadAsync(offset, destination);
    }

    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> source, bool forceUnitAccess, CancellationToken cancellationToken)
    {
        // Into the page cache, which seldom waits; a disk that is slow gets threads of its own.
        if (_file.IsSlow)
        {
            return _operations.WriteAsync(offset, source, forceUnitAccess);
        }

        _file.Write(offset, source.Span);
        return forceUnitAccess ? _operations.FlushAsync() : ValueTask.CompletedTask;
    }

    public override ValueTask FlushAsync(CancellationToken cancellationToken) => _operations.FlushAsync();

    public override ValueTask TrimAsync(
        long offset, long length, bool forceUnitAccess, CancellationToken cancellationToken) =>
        new(Task.Run(
            () =>
            {
                _file.Trim(offset, length);
                FlushIf(forceUnitAccess);
            },
            CancellationToken.None));

    public override ValueTask WriteZeroesAsync(
        long offset, long length, NbdZeroOptions options, CancellationToken cancellationToken) =>
        new(Task.Run(
            () =>
            {
                _file.Zero(offset, length, options, cancellationToken);
                FlushIf(options.HasFlag(NbdZeroOptions.ForceUnitAccess));
            },
            CancellationToken.None));

    public override ValueTask CacheAsync(long offset, long length, CancellationToken cancellationToken)
    {
        _ = LibC.posix_fadvise(_file.Fd.Fd, offset, length, LibC.POSIX_FADV_WILLNEED);
        return ValueTask.CompletedTask;
    }

    public override ValueTask ExtentsAsync(
        long offset, long length, NbdExtentList extents, CancellationToken cancellationToken)
    {
        // lseek(2) waits for the lock that a write holds which waits for the disk.
        if (_file.IsSlow)
        {
            return extents.IsOptional
                ? ValueTask.CompletedTask
                : AddRunsElsewhere(offset, length, extents);
        }

        extents.AddRuns(offset, length, _runAt);
        return ValueTask.CompletedTask;
    }

    // Of its own: what a lambda captures is allocated at the begin of the method, used or not.
    private ValueTask AddRunsElsewhere(long offset, long length, NbdExtentList extents) =>
        new(Task.Run(() => extents.AddRuns(offset, length, _runAt), CancellationToken.None));

    /// <returns>Bytes read, which may be none.</returns>
    private int ReadNoWait(long offset, Span<byte> destination)
    {
        fixed (byte* start = destination)
        {
            nint done = FileCalls.ReadNoWait(_file.Fd.Fd, start, destination.Length, offset);
            if (done < 0 && LinuxException.LastErrno is Errno.EOPNOTSUPP or Errno.ENOSYS)
            {
                _canReadNoWait = false;
            }

            return (int)Math.Max(0, done);
        }
    }

    private void FlushIf(bool isDurable)
    {
        if (isDurable)
        {
            _file.Flush();
        }
    }
}
