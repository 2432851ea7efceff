using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// The connected exports of a mount: the one, or with --all those that are open just now. Thread-safe.
/// </summary>
internal sealed class ExportPools : IDisposable
{
    // Guards both fields.
    private readonly Lock _gate = new();
    private readonly List<NbdConnectionPool> _pools = [];
    private bool _isClosed;

    /// <summary>Commands that were sent and not answered yet.</summary>
    internal int InFlight => All().Sum(pool => pool.InFlight);

    /// <summary>Connections that were opened.</summary>
    internal int ConnectionCount => All().Sum(pool => pool.ConnectionCount);

    /// <summary>Takes over a pool, unless the end has begun.</summary>
    internal bool TryAdd(NbdConnectionPool pool)
    {
        lock (_gate)
        {
            if (_isClosed)
            {
                return false;
            }

            _pools.Add(pool);
            return true;
        }
    }

    /// <summary>Flushes and closes one pool, whose export nobody has open any more. Takes as long as that takes.</summary>
    /// <returns>None, or why the last changes may not be on stable storage.</returns>
    internal Errno Close(NbdConnectionPool pool, TimeSpan flushTimeout, TimeSpan closeTimeout)
    {
        Errno flushed = pool.Close(flushTimeout, closeTimeout);
        lock (_gate)
        {
            if (!_pools.Remove(pool))
            {
                // The end has begun, and disposes of it.
                return flushed;
            }
        }

        pool.Dispose();
        return flushed;
    }

    /// <summary>Flushes and closes all pools, side by side; from now on none is added.</summary>
    /// <returns>None, or the first reason why the last changes may not be on stable storage.</returns>
    internal Errno Close(TimeSpan flushTimeout, TimeSpan closeTimeout)
    {
        lock (_gate)
        {
            _isClosed = true;
        }

        Task<Errno>[] closing =
        [
            .. All().Select(pool => Task.Factory.StartNew(
                () => pool.Close(flushTimeout, closeTimeout),
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default)),
        ];
        return Task.WhenAll(closing).GetAwaiter().GetResult().FirstOrDefault(error => error != Errno.None);
    }

    /// <summary>Cuts all connections: what is in flight completes with EIO, soon.</summary>
    internal void Abort(string why)
    {
        foreach (NbdConnectionPool pool in All())
        {
            pool.Abort(new NbdException($"{pool.Endpoint}: {why}", Errno.ECANCELED));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (NbdConnectionPool pool in All())
        {
            pool.Dispose();
        }
    }

    private NbdConnectionPool[] All()
    {
        lock (_gate)
        {
            return [.. _pools];
        }
    }
}
