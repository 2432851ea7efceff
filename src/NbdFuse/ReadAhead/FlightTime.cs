namespace NbdFuse;

/// <summary>
/// What the commands of a file tell about its server: how long a block takes without a queue before it, and how long
/// now. The window follows from both: latency x bandwidth, and no queue that others would have to wait in. Not
/// thread-safe.
/// </summary>
internal sealed class FlightTime
{
    // A window below this is a loss even without delay: large reads are then not overlapped (measured: 1 MiB x0.85 of
    // no read-ahead, 4 MiB x1.5).
    private const long SmallestLimit = 4 << 20;

    // Bytes that at most come in a second: more than one connection of today's local servers gives.
    private const long BytesInSecond = 2L << 30;

    private static readonly TimeSpan s_epoch = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_tolerableQueue = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan s_longQueue = TimeSpan.FromMilliseconds(200);

    private readonly TimeProvider _time;
    private long _epochStart;
    private TimeSpan _shortestBefore = TimeSpan.MaxValue;
    private TimeSpan _shortestNow = TimeSpan.MaxValue;
    private TimeSpan _average;

    internal FlightTime(TimeProvider time)
    {
        _time = time;
    }

    /// <summary>The shortest time of this and the last epoch; zero when nothing came yet.</summary>
    internal TimeSpan Shortest
    {
        get
        {
            TimeSpan shortest = _shortestNow < _shortestBefore ? _shortestNow : _shortestBefore;
            return shortest == TimeSpan.MaxValue ? TimeSpan.Zero : shortest;
        }
    }

    /// <summary>Whether commands wait for each other, so that more of them at a time would bring nothing.</summary>
    internal bool HasQueue => _average > (2 * Shortest) + s_tolerableQueue;

    /// <summary>Whether they wait so long that others must feel it.</summary>
    internal bool HasLongQueue => _average > (4 * Shortest) + s_longQueue;

    /// <summary>Bytes that are worth having in flight, at most.</summary>
    internal long WindowLimit => Math.Max(SmallestLimit, (long)(Shortest.TotalSeconds * BytesInSecond));

    /// <summary>Whether the smallest of windows is enough.</summary>
    internal bool IsNear => WindowLimit == SmallestLimit;

    /// <summary>
    /// How many times as large a window becomes. It grows once in a round trip, so a far server gets it in fewer steps
    /// (50 ms: the first 32 MiB in 217 ms instead of 306); near ones have the small limit, and soon.
    /// </summary>
    internal uint GrowthFactor => IsNear ? 2u : 4u;

    /// <summary>Notes how long a block took.</summary>
    /// <returns>
    /// True when a new epoch begins: then windows should be small for a moment, or the shortest time would in the end
    /// be that of a full queue.
    /// </returns>
    internal bool Add(TimeSpan flight, long now)
    {
        _average = _average == TimeSpan.Zero ? flight : _average + ((flight - _average) / 2);
        bool isNewEpoch = _time.GetElapsedTime(_epochStart, now) > s_epoch;
        if (isNewEpoch)
        {
            _epochStart = now;
            _shortestBefore = _shortestNow;
            _shortestNow = flight;
        }
        else if (flight < _shortestNow)
        {
            _shortestNow = flight;
        }

        return isNewEpoch;
    }
}
