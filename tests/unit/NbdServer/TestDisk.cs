using System.Collections.Concurrent;
using global::Nbd;

namespace UnitTests.Serving;

/// <summary>A disk in memory that can do everything, and remembers what it was asked.</summary>
internal sealed class TestDisk(int size) : NbdBackend
{
    private readonly ConcurrentQueue<string> _calls = new();
    private int _running;

    internal byte[] Content { get; } = new byte[size];

    internal IReadOnlyList<string> Calls => [.. _calls];

    internal int Opened { get; set; }

    internal int Disposed;

    /// <summary>The most calls that ran at a time.</summary>
    internal int MostRunning { get; private set; }

    internal NbdBackendCapabilities Offers { get; init; } = NbdBackendCapabilities.Flush
        | NbdBackendCapabilities.ForceUnitAccess | NbdBackendCapabilities.Trim | NbdBackendCapabilities.WriteZeroes
        | NbdBackendCapabilities.FastZero | NbdBackendCapabilities.Cache | NbdBackendCapabilities.Extents;

    internal int MinimumBlock { get; init; } = 1;

    internal bool Parallel { get; init; } = true;

    internal string? Text { get; init; }

    /// <summary>Runs before each call, by its name; may wait or throw.</summary>
    internal Func<string, Task>? Before { get; init; }

    public override long SizeBytes => Content.Length;

    public override NbdBackendCapabilities Capabilities => Offers;

    public override int MinimumBlockBytes => MinimumBlock;

    public override string? Description => Text;

    public override bool IsParallel => Parallel;

    public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        await BeginAsync($"read {offset} {destination.Length}");
        Content.AsSpan((int)offset, destination.Length).CopyTo(destination.Span);
        End();
    }

    public override async ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> source, bool forceUnitAccess, CancellationToken cancellationToken)
    {
        await BeginAsync($"write {offset} {source.Length}{(forceUnitAccess ? " fua" : "")}");
        source.CopyTo(Content.AsMemory((int)offset));
        End();
    }

    public override async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        await BeginAsync("flush");
        End();
    }

    public override async ValueTask TrimAsync(
        long offset, long length, bool forceUnitAccess, CancellationToken cancellationToken)
    {
        await BeginAsync($"trim {offset} {length}{(forceUnitAccess ? " fua" : "")}");
        End();
    }

    public override async ValueTask WriteZeroesAsync(
        long offset, long length, NbdZeroOptions options, CancellationToken cancellationToken)
    {
        await BeginAsync($"zero {offset} {length} {options}");
        Content.AsSpan((int)offset, (int)length).Clear();
        End();
    }

    public override async ValueTask CacheAsync(long offset, long length, CancellationToken cancellationToken)
    {
        await BeginAsync($"cache {offset} {length}");
        End();
    }

    // Blocks of 512 zeroes are holes.
    public override ValueTask ExtentsAsync(
        long offset, long length, NbdExtentList extents, CancellationToken cancellationToken)
    {
        const int Block = 512;
        for (long end = offset + length; offset < end;)
        {
            int part = (int)Math.Min(Block - (offset % Block), end - offset);
            bool isZero = !Content.AsSpan((int)(offset / Block * Block), Block).ContainsAnyExcept((byte)0);
            if (!extents.TryAdd(part, isZero ? NbdExtentFlags.Hole | NbdExtentFlags.Zero : NbdExtentFlags.Data))
            {
                break;
            }

            offset += part;
        }

        return ValueTask.CompletedTask;
    }

    public override ValueTask DisposeAsync()
    {
        Interlocked.Increment(ref Disposed);
        return base.DisposeAsync();
    }

    private async ValueTask BeginAsync(string call)
    {
        _calls.Enqueue(call);
        MostRunning = Math.Max(MostRunning, Interlocked.Increment(ref _running));
        if (Before is not null)
        {
            try
            {
                await Before(call);
            }
            catch
            {
                End();
                throw;
            }
        }
    }

    private void End() => Interlocked.Decrement(ref _running);
}
