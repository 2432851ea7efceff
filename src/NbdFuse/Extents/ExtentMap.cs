namespace NbdFuse;

/// <summary>
/// What is known of each byte of an export, as runs of one kind that lie end to end; neighbours differ. Of so many runs
/// as there is room for: when there are more, those farthest from the last change are forgotten, never guessed. Not
/// thread-safe.
/// </summary>
internal sealed class ExtentMap
{
    /// <summary>Most runs that the map of an export keeps: about 1 MiB.</summary>
    internal const int UsualCapacity = 64 << 10;

    private readonly ulong _size;
    private readonly int _capacity;
    private readonly BoundaryList _boundaries = new();
    private readonly ulong[] _bytes = new ulong[3];

    // Nothing before it is unknown.
    private ulong _knownTo;

    /// <param name="size">Size of the export in bytes, at least 1.</param>
    /// <param name="capacity">Most runs, at least 8.</param>
    internal ExtentMap(ulong size, int capacity = UsualCapacity)
    {
        ArgumentOutOfRangeException.ThrowIfZero(size);
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 8);
        (_size, _capacity) = (size, capacity);
        Clear();
    }

    /// <summary>Number of runs.</summary>
    internal int Count => _boundaries.Count;

    /// <summary>Bytes of which nothing is known.</summary>
    internal ulong UnknownBytes => _bytes[(int)ExtentKind.Unknown];

    /// <summary>Bytes of holes.</summary>
    internal ulong HoleBytes => _bytes[(int)ExtentKind.Hole];

    /// <summary>Forgets everything.</summary>
    internal void Clear()
    {
        _boundaries.Clear();
        _boundaries.Insert(new Boundary(0, ExtentKind.Unknown));
        Array.Clear(_bytes);
        _bytes[(int)ExtentKind.Unknown] = _size;
        _knownTo = 0;
    }

    /// <summary>The run that a byte lies in.</summary>
    /// <param name="position">The byte: inside the export.</param>
    internal ExtentRun Find(ulong position) => RunAt(_boundaries.Floor(position));

    /// <summary>The first unknown run that ends after a byte; of length 0 if there is none.</summary>
    internal ExtentRun FindUnknown(ulong position)
    {
        bool isFromStart = position <= _knownTo;
        position = Math.Max(position, _knownTo);
        if (position < _size)
        {
            BoundaryPlace place = _boundaries.Floor(position);
            for (; !_boundaries.IsEnd(place); place = _boundaries.Next(place))
            {
                if (_boundaries[place].Kind == ExtentKind.Unknown)
                {
                    ExtentRun run = RunAt(place);
                    _knownTo = isFromStart ? Math.Max(_knownTo, run.Start) : _knownTo;
                    return run;
                }
            }
        }

        _knownTo = isFromStart ? _size : _knownTo;
        return default;
    }

    /// <summary>Bytes of holes between two positions.</summary>
    internal ulong HoleBytesIn(ulong start, ulong end)
    {
        if (start == 0 && end == _size)
        {
            return HoleBytes;
        }

        ulong sum = 0;
        BoundaryPlace place = _boundaries.Floor(start);
        while (!_boundaries.IsEnd(place) && _boundaries[place].Start < end)
        {
            ExtentRun run = RunAt(place);
            sum += run.Kind == ExtentKind.Hole ? Math.Min(run.End, end) - Math.Max(run.Start, start) : 0;
            place = _boundaries.Next(place);
        }

        return sum;
    }

    /// <summary>Notes what a range is. What lies past the end of the export is left out.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="end">The byte after the last.</param>
    /// <param name="kind">What it is.</param>
    /// <returns>What was forgotten to make room: of length 0 if nothing was.</returns>
    internal ExtentRun Set(ulong start, ulong end, ExtentKind kind)
    {
        end = Math.Min(end, _size);
        if (start >= end)
        {
            return default;
        }

        ExtentRun first = Find(start);
        if (first.Kind == kind && end <= first.End)
        {
            return default;
        }

        Replace(start, end, kind);
        return Count > _capacity ? ForgetHalf(start, end) : default;
    }

    private void Replace(ulong start, ulong end, ExtentKind kind)
    {
        Count(start, end);
        ExtentKind? before = start > 0 ? Find(start - 1).Kind : null;
        ExtentKind? after = end < _size ? Find(end).Kind : null;
        _boundaries.RemoveRange(start, end);
        if (before != kind)
        {
            _boundaries.Insert(new Boundary(start, kind));
        }

        if (after is ExtentKind following && following != kind)
        {
            _boundaries.Insert(new Boundary(end, following));
        }

        _bytes[(int)kind] += end - start;
        _knownTo = kind == ExtentKind.Unknown ? Math.Min(_knownTo, start) : _knownTo;

        void Count(ulong from, ulong to)
        {
            BoundaryPlace place = _boundaries.Floor(from);
            while (!_boundaries.IsEnd(place) && _boundaries[place].Start < to)
            {
                ExtentRun run = RunAt(place);
                _bytes[(int)run.Kind] -= Math.Min(run.End, to) - Math.Max(run.Start, from);
                place = _boundaries.Next(place);
            }
        }
    }

    /// <summary>Forgets the half of the runs that a range does not lie in.</summary>
    private ExtentRun ForgetHalf(ulong start, ulong end)
    {
        ulong middle = _boundaries.MiddleStart;
        ExtentRun forgotten = start >= middle
            ? new ExtentRun(0, middle, ExtentKind.Unknown)
            : new ExtentRun(Math.Max(middle, end), _size, ExtentKind.Unknown);
        Replace(forgotten.Start, forgotten.End, ExtentKind.Unknown);
        return forgotten;
    }

    private ExtentRun RunAt(BoundaryPlace place)
    {
        BoundaryPlace next = _boundaries.Next(place);
        Boundary boundary = _boundaries[place];
        return new ExtentRun(
            boundary.Start, _boundaries.IsEnd(next) ? _size : _boundaries[next].Start, boundary.Kind);
    }
}
