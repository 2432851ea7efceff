using Linux;
using Nbd;

namespace NbdServe.Backends;

/// <summary>
/// Serves a <see cref="SparseRandomDisk"/> and checks what is written to it: data that differs from what is there
/// fails with EIO. So a copying tool that copies the disk onto itself is checked and timed. Thread-safe.
/// </summary>
internal sealed class SparseRandomBackend(SparseRandomDisk disk) : NbdBackend
{
    // Made once: reads ask for extents too.
    private readonly Func<long, (NbdExtentFlags Flags, long End)> _runAt = offset =>
    {
        (bool isData, long end) = disk.RunAt(offset);
        return (isData ? NbdExtentFlags.Data : ExtentRuns.Nothing, end);
    };

    public override long SizeBytes => disk.SizeBytes;

    public override NbdBackendCapabilities Capabilities =>
        NbdBackendCapabilities.Flush | NbdBackendCapabilities.ForceUnitAccess | NbdBackendCapabilities.Trim
        | NbdBackendCapabilities.WriteZeroes | NbdBackendCapabilities.FastZero | NbdBackendCapabilities.Cache
        | NbdBackendCapabilities.MultiConn | NbdBackendCapabilities.Extents;

    public override string Description => "sparse-random";

    public override ValueTask ReadAsync(
        long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        disk.Read(offset, destination.Span);
        return ValueTask.CompletedTask;
    }

    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> source, bool forceUnitAccess, CancellationToken cancellationToken)
    {
        Check(disk.FindDifference(offset, source.Span));
        return ValueTask.CompletedTask;
    }

    public override ValueTask TrimAsync(
        long offset, long length, bool forceUnitAccess, CancellationToken cancellationToken) =>
        WriteZeroesAsync(offset, length, NbdZeroOptions.None, cancellationToken);

    public override ValueTask WriteZeroesAsync(
        long offset, long length, NbdZeroOptions options, CancellationToken cancellationToken)
    {
        Check(disk.FindNonZero(offset, length));
        return ValueTask.CompletedTask;
    }

    public override ValueTask ExtentsAsync(
        long offset, long length, NbdExtentList extents, CancellationToken cancellationToken)
    {
        extents.AddRuns(offset, length, _runAt);
        return ValueTask.CompletedTask;
    }

    private static void Check(long difference)
    {
        if (difference >= 0)
        {
            throw new LinuxException($"data differs from what is there at offset {difference}", Errno.EIO);
        }
    }
}
