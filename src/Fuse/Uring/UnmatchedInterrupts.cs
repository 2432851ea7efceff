namespace Fuse;

/// <summary>
/// INTERRUPTs that came before their request: INTERRUPT is read from the device while its request is still on a ring.
/// The kernel does not repeat those. Uniques are never used twice, so one that came after the answer does no harm:
/// it stays until others take its place. Thread-safe.
/// </summary>
internal sealed class UnmatchedInterrupts
{
    private readonly ulong[] _uniques = new ulong[64];
    private int _turn;
    private volatile bool _any;

    /// <summary>Remembers an INTERRUPT. Look once more for its request afterwards.</summary>
    internal void Add(ulong unique)
    {
        int place = (int)((uint)Interlocked.Increment(ref _turn) % (uint)_uniques.Length);
        Volatile.Write(ref _uniques[place], unique);
        _any = true;
        Interlocked.MemoryBarrier();
    }

    /// <summary>Whether a request that was just published is to be interrupted; only once.</summary>
    internal bool Take(ulong unique)
    {
        // Between publishing and looking, as in Add: one of the two sides sees the other.
        Interlocked.MemoryBarrier();
        if (!_any)
        {
            return false;
        }

        int place = Array.IndexOf(_uniques, unique);
        return place >= 0 && Interlocked.CompareExchange(ref _uniques[place], 0, unique) == unique;
    }
}
