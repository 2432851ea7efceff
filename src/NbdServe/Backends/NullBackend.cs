using Nbd;

namespace NbdServe.Backends;

/// <summary>Reads as zeroes and forgets what is written. Thread-safe: it has no state.</summary>
internal sealed class NullBackend(long sizeBytes) : NbdBackend
{
    public override long SizeBytes => sizeBytes;

    public override NbdBackendCapabilities Capabilities =>
        NbdBackendCapabilities.Flush | NbdBackendCapabilities.ForceUnitAccess | NbdBackendCapabilities.Trim
        | NbdBackendCapabilities.WriteZeroes | NbdBackendCapabilities.FastZero | NbdBackendCapabilities.Cache
        | NbdBackendCapabilities.MultiConn | NbdBackendCapabilities.Extents;

    public override string Description => "null";

    public override ValueTask ReadAsync(
        long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        destination.Span.Clear();
        return ValueTask.CompletedTask;
    }

    public override ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> source, bool forceUnitAccess, CancellationToken cancellationToken) =>
        ValueTask.CompletedTask;

    public override ValueTask WriteZeroesAsync(
        long offset, long length, NbdZeroOptions options, CancellationToken cancellationToken) =>
        ValueTask.CompletedTask;

    public override ValueTask ExtentsAsync(
        long offset, long length, NbdExtentList extents, CancellationToken cancellationToken)
    {
        extents.TryAdd(length, NbdExtentFlags.Hole | NbdExtentFlags.Zero);
        return ValueTask.CompletedTask;
    }
}
