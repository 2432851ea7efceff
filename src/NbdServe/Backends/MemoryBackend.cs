using Nbd;

namespace NbdServe.Backends;

/// <summary>Serves a <see cref="SparseMemory"/>, at once: all tasks are completed. Thread-safe.</summary>
internal sealed class MemoryBackend(SparseMemory memory) : NbdBackend
{
    // Made once: reads ask for extents too.
    private readonly Func<long, (NbdExtentFlags Flags, long End)> _runAt = memory.RunAt;

    public override long SizeBytes => memory.SizeBytes;

    public override NbdBackendCapabilities Capabilities =>
        NbdBackendCapabilities.Flush | NbdBackendCapabilities.ForceUnitAccess | NbdBackendCapabilities.Trim
        | NbdBackendCapabilities.WriteZeroes | NbdBackendCapabilities.FastZero | NbdBackendCapabilities.Cache
        | NbdBackendCapabilities.MultiConn | NbdBackendCapabilities.Extents;

    public override string Description => "memory";

    public override ValueTask ReadAsync(
        long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        memory.Read(offset, destination.Span);
        return ValueTask.CompletedTask;
    }

    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> source, bool forceUnitAccess, CancellationToken cancellationToken)
    {
        memory.Write(offset, source.Span);
        return ValueTask.CompletedTask;
    }

    public override ValueTask TrimAsync(
        long offset, long length, bool forceUnitAccess, CancellationToken cancellationToken)
    {
        memory.Release(offset, length);
        return ValueTask.CompletedTask;
    }

    public override ValueTask WriteZeroesAsync(
        long offset, long length, NbdZeroOptions options, CancellationToken cancellationToken)
    {
        if (options.HasFlag(NbdZeroOptions.NoHole))
        {
            memory.Reserve(offset, length, cancellationToken);
        }
        else
        {
            memory.Release(offset, length);
        }

        return ValueTask.CompletedTask;
    }

    public override ValueTask ExtentsAsync(
        long offset, long length, NbdExtentList extents, CancellationToken cancellationToken)
    {
        extents.AddRuns(offset, length, _runAt);
        return ValueTask.CompletedTask;
    }
}
