namespace NbdFuse;

/// <summary>
/// A BLOCK_STATUS that is in flight, or whose answer is being noted. What changes meanwhile is kept here, because the
/// answer may be from before it. Belongs to the lock of its <see cref="ExtentTracker"/>, but for what is set once.
/// </summary>
/// <param name="start">First byte that is asked about.</param>
/// <param name="end">The byte after the last.</param>
internal sealed class ExtentInquiry(ulong start, ulong end)
{
    // More are taken together: then less of the answer is believed, and the rest is asked for again.
    private const int MaximumDisturbances = 32;

    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<(ulong Start, ulong End)> _disturbed = [];

    internal ulong Start { get; } = start;

    internal ulong End { get; } = end;

    /// <summary>Everything was forgotten since it was sent: nothing of the answer is believed.</summary>
    internal bool IsVoid { get; set; }

    /// <summary>Completes when the answer was noted, or there will be none. Never fails.</summary>
    internal Task Done => _done.Task;

    internal bool Covers(ulong position) => position >= Start && position < End;

    internal void Complete() => _done.SetResult();

    /// <summary>What the answer says of a range is not to be believed.</summary>
    internal void Disturb(ulong from, ulong to)
    {
        if (_disturbed.Count == MaximumDisturbances)
        {
            from = Math.Min(from, _disturbed.Min(range => range.Start));
            to = Math.Max(to, _disturbed.Max(range => range.End));
            _disturbed.Clear();
        }

        _disturbed.Add((from, to));
    }

    /// <summary>The next part of a range whose answer is to be believed.</summary>
    /// <param name="from">Start of the range; then that of the part.</param>
    /// <param name="to">End of the range.</param>
    /// <returns>End of the part; <paramref name="to"/> with <paramref name="from"/> there if there is none.</returns>
    internal ulong NextBelievable(ref ulong from, ulong to)
    {
        ulong end = to;
        bool moved = true;
        while (moved && from < to)
        {
            moved = false;
            end = to;
            foreach ((ulong start, ulong disturbedEnd) in _disturbed)
            {
                if (from >= start && from < disturbedEnd)
                {
                    from = Math.Min(disturbedEnd, to);
                    moved = true;
                }
                else if (start > from && start < end)
                {
                    end = start;
                }
            }
        }

        return end;
    }
}
