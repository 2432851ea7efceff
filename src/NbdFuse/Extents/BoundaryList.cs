namespace NbdFuse;

/// <summary>
/// Boundaries in the order of their starts, no two at the same. In chunks, so that a change in the middle moves at most
/// a chunk, and allocates only when one is split. Not thread-safe.
/// </summary>
internal sealed class BoundaryList
{
    private const int ChunkCapacity = 128;

    // At least one. None is empty, but the only one; two neighbours together fill more than half of one.
    private readonly List<Chunk> _chunks = [new Chunk()];

    internal int Count { get; private set; }

    /// <summary>About half of the boundaries are before the one that starts here.</summary>
    internal ulong MiddleStart =>
        _chunks.Count > 1 ? _chunks[_chunks.Count / 2].Items[0].Start : _chunks[0].Items[_chunks[0].Count / 2].Start;

    internal Boundary this[BoundaryPlace place] => _chunks[place.Chunk].Items[place.Index];

    internal bool IsEnd(BoundaryPlace place) => place.Chunk == _chunks.Count;

    internal BoundaryPlace Next(BoundaryPlace place) => place.Index + 1 < _chunks[place.Chunk].Count
        ? place with { Index = place.Index + 1 }
        : new BoundaryPlace(place.Chunk + 1, 0);

    /// <summary>The last one that starts at or before a position. There must be one.</summary>
    internal BoundaryPlace Floor(ulong position)
    {
        int chunk = ChunkOf(position);
        return new BoundaryPlace(chunk, _chunks[chunk].Above(position) - 1);
    }

    internal void Clear()
    {
        _chunks.Clear();
        _chunks.Add(new Chunk());
        Count = 0;
    }

    /// <summary>Inserts one. None may start there.</summary>
    internal void Insert(Boundary boundary)
    {
        int number = ChunkOf(boundary.Start);
        Chunk chunk = _chunks[number];
        if (chunk.Count == ChunkCapacity)
        {
            Chunk upper = new();
            chunk.MoveTo(upper, ChunkCapacity / 2);
            _chunks.Insert(number + 1, upper);
            chunk = boundary.Start > upper.Items[0].Start ? upper : chunk;
        }

        chunk.Insert(chunk.Above(boundary.Start), boundary);
        Count++;
    }

    /// <summary>Removes those that start in a range, its end included.</summary>
    internal void RemoveRange(ulong start, ulong end)
    {
        int number = start == 0 ? 0 : ChunkOf(start);
        while (number < _chunks.Count)
        {
            Chunk chunk = _chunks[number];
            int from = start == 0 ? 0 : chunk.Above(start - 1);
            int to = chunk.Above(end);
            bool goesOn = to == chunk.Count;
            Count -= to - from;
            chunk.Remove(from, to);
            if (chunk.Count == 0 && _chunks.Count > 1)
            {
                _chunks.RemoveAt(number);
            }
            else
            {
                number++;
            }

            if (!goesOn)
            {
                break;
            }
        }

        JoinAround(Math.Min(number, _chunks.Count - 1));
    }

    private void JoinAround(int number)
    {
        for (int left = Math.Min(number, _chunks.Count - 2); left >= 0 && left >= number - 2; left--)
        {
            if (_chunks[left].Count + _chunks[left + 1].Count <= ChunkCapacity / 2)
            {
                _chunks[left + 1].MoveTo(_chunks[left], 0);
                _chunks.RemoveAt(left + 1);
            }
        }
    }

    /// <summary>The last chunk that starts at or before a position, else the first.</summary>
    private int ChunkOf(ulong position)
    {
        int low = 0;
        int high = _chunks.Count;
        while (high - low > 1)
        {
            int middle = (low + high) / 2;
            if (_chunks[middle].Items[0].Start <= position)
            {
                low = middle;
            }
            else
            {
                high = middle;
            }
        }

        return low;
    }

    private sealed class Chunk
    {
        internal Boundary[] Items { get; } = new Boundary[ChunkCapacity];

        internal int Count { get; private set; }

        /// <summary>How many start at or before a position.</summary>
        internal int Above(ulong position)
        {
            int low = 0;
            int high = Count;
            while (low < high)
            {
                int middle = (low + high) / 2;
                if (Items[middle].Start <= position)
                {
                    low = middle + 1;
                }
                else
                {
                    high = middle;
                }
            }

            return low;
        }

        internal void Insert(int index, Boundary boundary)
        {
            Array.Copy(Items, index, Items, index + 1, Count - index);
            Items[index] = boundary;
            Count++;
        }

        internal void Remove(int from, int to)
        {
            Array.Copy(Items, to, Items, from, Count - to);
            Count -= to - from;
        }

        /// <summary>Moves the boundaries from an index on to the end of another chunk.</summary>
        internal void MoveTo(Chunk other, int from)
        {
            Array.Copy(Items, from, other.Items, other.Count, Count - from);
            other.Count += Count - from;
            Count = from;
        }
    }
}
