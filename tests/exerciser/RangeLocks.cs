namespace Exerciser;

/// <summary>
/// Who works on which part of the file. Operations of threads overlap in time but not in place, so that the content
/// is known at each moment. Thread-safe.
/// </summary>
internal sealed class RangeLocks(long sizeBytes, int granule)
{
    /// <summary>Whether a granule is taken; also the lock that guards itself.</summary>
    private readonly bool[] _taken = new bool[Math.Max(1, (sizeBytes + granule - 1) / granule)];

    /// <summary>Waits for all granules that the ranges touch and takes them, all at one time: no order, no deadlock.</summary>
    public void Take(params ReadOnlySpan<ByteRange> ranges)
    {
        lock (_taken)
        {
            while (!AreFree(ranges))
            {
                Monitor.Wait(_taken);
            }

            Mark(ranges, true);
        }
    }

    public void Give(params ReadOnlySpan<ByteRange> ranges)
    {
        lock (_taken)
        {
            Mark(ranges, false);
            Monitor.PulseAll(_taken);
        }
    }

    private bool AreFree(ReadOnlySpan<ByteRange> ranges)
    {
        foreach (ByteRange range in ranges)
        {
            if (Granules(range).Contains(true))
            {
                return false;
            }
        }

        return true;
    }

    private void Mark(ReadOnlySpan<ByteRange> ranges, bool value)
    {
        foreach (ByteRange range in ranges)
        {
            Granules(range).Fill(value);
        }
    }

    // What is beyond the end counts as the last granule.
    private Span<bool> Granules(ByteRange range)
    {
        int first = (int)Math.Min(range.Offset / granule, _taken.Length - 1);
        int last = (int)Math.Min((Math.Max(range.End, range.Offset + 1) - 1) / granule, _taken.Length - 1);
        return _taken.AsSpan(first, last - first + 1);
    }
}
