namespace Nbd;

/// <summary>Takes the extents that a backend reports, up to what the client asked for. Not thread-safe.</summary>
public sealed class NbdExtentList
{
    private readonly List<(long Length, NbdExtentFlags Flags)> _extents = [];
    private long _left;
    private int _maximum;

    /// <summary>
    /// Whether a READ asks, only to send holes as holes: a backend that would have to wait may as well add nothing.
    /// </summary>
    public bool IsOptional { get; private set; }

    /// <summary>Extents so far.</summary>
    internal int Count => _extents.Count;

    /// <summary>An extent; neighbours differ in their flags.</summary>
    internal (long Length, NbdExtentFlags Flags) this[int index] => _extents[index];

    /// <summary>
    /// Adds the next extent. What goes beyond the range is cut off, and neighbours with the same flags become one.
    /// </summary>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">What it is.</param>
    /// <returns>False when no more is wanted.</returns>
    public bool TryAdd(long length, NbdExtentFlags flags)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        length = Math.Min(length, _left);
        if (length == 0)
        {
            return false;
        }

        if (_extents.Count > 0 && _extents[^1].Flags == flags)
        {
            _extents[^1] = (_extents[^1].Length + length, flags);
        }
        else if (_extents.Count < _maximum)
        {
            _extents.Add((length, flags));
        }
        else
        {
            _left = 0;
            return false;
        }

        _left -= length;
        return _left > 0;
    }

    /// <summary>Starts anew, for a range of <paramref name="length"/> bytes.</summary>
    internal void Begin(long length, int maximum, bool isOptional = false)
    {
        IsOptional = isOptional;
        _extents.Clear();
        (_left, _maximum) = (length, maximum);
    }
}
