namespace ClientBench;

/// <summary>What is measured.</summary>
internal sealed record Workload(string Uri, bool IsWrite, int BlockBytes, int Depth, int? Connections);

/// <summary>Commands that follow one another until the end. Each place in the queue counts for itself.</summary>
internal abstract class Load : IAsyncDisposable
{
    private readonly List<Place> _places = [];
    private volatile bool _isStopping;

    internal bool IsStopping => _isStopping;

    internal abstract int Connections { get; }

    /// <summary>Commands that were answered.</summary>
    internal long Operations => _places.Sum(place => Volatile.Read(ref place.Operations));

    protected Place NewPlace(long blocks)
    {
        Place place = new((uint)_places.Count, blocks);
        _places.Add(place);
        return place;
    }

    protected void BeginStop() => _isStopping = true;

    public abstract ValueTask DisposeAsync();

    /// <summary>One place in the queue: which block is next.</summary>
    internal sealed class Place(uint seed, long blocks)
    {
        internal long Operations;
        private ulong _state = (seed + 1) * 0x9E3779B97F4A7C15;

        internal long NextBlock()
        {
            _state ^= _state << 13;
            _state ^= _state >> 7;
            _state ^= _state << 17;
            return (long)(_state % (ulong)blocks);
        }
    }
}
