using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// The connected exports of a mount: the one, or with --all those that are open just now. Thread-safe.
/// </summary>
internal sealed class ExportPools : IDisposable
{
    // Guards the fields that follow.
    private readonly Lock _gate = new();
    private readonly List<NbdConnectionPool> _pools = [];

    // Those that are being closed, by whoever then disposes of them.
    private readonly List<NbdConnectionPool> _leaving = [];
    // The first error of a FLUSH once the end has begun.
    private Errno _leftWith;
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
        lock (_gate)
        {
            if (!_pools.Remove(pool))
            {
                // The end has begun, and closes it.
                return Errno.None;
            }

            _leaving.Add(pool);
        }

        return CloseLeaving(pool, flushTimeout, closeTimeout);
    }

    /// <summary>Flushes and closes all pools, side by side; from now on none is added.</summary>
    /// <returns>None, or the first reason why the last changes may not be on stable storage.</returns>
    internal Errno Close(TimeSpan flushTimeout, TimeSpan closeTimeout)
    {
        NbdConnectionPool[] pools;
        lock (_gate)
        {
            _isClosed = true;
            pools = [.. _pools];
            _leaving.AddRange(_pools);
            _pools.Clear();
        }

        Task<Errno>[] closing =
        [
            .. pools.Select(pool => Task.Factory.StartNew(
                () => CloseLeaving(pool, flushTimeout, closeTimeout),
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default)),
        ];
        _ = Task.WhenAll(closing).GetAwaiter().GetResult();
        if (!SpinWait.SpinUntil(() => !IsLeaving, flushTimeout))
        {
            Abort("given up at exit");
            _ = SpinWait.SpinUntil(() => !IsLeaving, closeTimeout);
        }

        lock (_gate)
        {
            return _leftWith;
        }
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
        // What was not closed, because the start failed.
        foreach (NbdConnectionPool pool in _pools)
        {
            pool.Dispose();
        }
    }

    private Errno CloseLeaving(NbdConnectionPool pool, TimeSpan flushTimeout, TimeSpan closeTimeout)
    {
        Errno flushed = pool.Close(flushTimeout, closeTimeout);
        lock (_gate)
        {
            _ = _leaving.Remove(pool);
            _leftWith = _isClosed && _leftWith == Errno.None ? flushed : _leftWith;
        }

        pool.Dispose();
        return flushed;
    }

    private bool IsLeaving
    {
        get
        {
            lock (_gate)
            {
                return _leaving.Count > 0;
            }
        }
    }

    private NbdConnectionPool[] All()
    {
        lock (_gate)
        {
            return [.. _pools, .. _leaving];
        }
    }
}
