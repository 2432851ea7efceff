using System.Diagnostics;

namespace Linux;

/// <summary>
/// Decides when to look for the next input for a moment before sleeping until it comes. Whoever talks to somebody that waits
/// for each answer gets it some microseconds later; a processor that went to sleep meanwhile takes longer than that to wake
/// up. Looking keeps a processor busy, so it goes on only as long as it finds something, gives way to all who want to run,
/// and never takes more than half of the processors. Belongs to the thread that looks.
/// </summary>
/// <param name="timestamp">The clock of <see cref="Stopwatch"/>.</param>
/// <param name="giveWay">Lets others run.</param>
/// <param name="maximumPollers">How many threads of this process may look at a time.</param>
public sealed class BusyPolling(Func<long> timestamp, Action giveWay, int maximumPollers)
{
    // A peer on another processor answers within 30, most of which is its own waking up.
    private const int MaximumMicroseconds = 50;

    // Nobody who only takes bytes from us to the peer needs as long.
    private const int TakenMicroseconds = 500;

    // After the 10th wait in a row that was in vain every 1024th is left.
    private const int MaximumFailures = 10;

    // A slice of the scheduler, some milliseconds, every so many requests is less than what waking up costs them.
    private const int WaitsAfterTaken = 16 * 1024;

    private static readonly long s_maximumTicks = Stopwatch.Frequency * MaximumMicroseconds / 1_000_000;
    private static readonly long s_takenTicks = Stopwatch.Frequency * TakenMicroseconds / 1_000_000;

    // Threads that look right now, of the whole process.
    private static int s_pollers;

    private int _failures;
    private int _skip;
    private long _start;
    private long _last;

    /// <summary>With the system's clock, sched_yield(2) and processors.</summary>
    public BusyPolling()
        : this(Stopwatch.GetTimestamp, static () => Thread.Yield(), Environment.ProcessorCount / 2)
    {
    }

    /// <summary>Whether to look before this wait. If so, <see cref="End"/> must follow.</summary>
    public bool TryBegin()
    {
        if (_skip > 0)
        {
            _skip--;
            return false;
        }

        if (Interlocked.Increment(ref s_pollers) > maximumPollers)
        {
            Interlocked.Decrement(ref s_pollers);
            return false;
        }

        _start = _last = timestamp();
        return true;
    }

    /// <summary>Lets others run, then says whether to look again.</summary>
    public bool Continues()
    {
        giveWay();
        long now = timestamp();
        if (now - _last > s_takenTicks)
        {
            // Somebody computes on this processor: who waits asleep gets it back at once, who gives way does not.
            _skip = WaitsAfterTaken;
            return false;
        }

        _last = now;
        return now - _start < s_maximumTicks;
    }

    /// <summary>Ends looking. Each time in vain doubles the number of waits without it.</summary>
    /// <param name="found">Whether there was something.</param>
    public void End(bool found)
    {
        Interlocked.Decrement(ref s_pollers);
        if (found)
        {
            _failures /= 2;
            return;
        }

        _failures = Math.Min(_failures + 1, MaximumFailures);
        _skip = Math.Max(_skip, (1 << _failures) - 1);
    }
}
