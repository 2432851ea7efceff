namespace Linux;

/// <summary>
/// A point in time after which a series of waits gives up. Counted on the monotonic clock.
/// The default value has passed already.
/// </summary>
public readonly struct Deadline : IEquatable<Deadline>
{
    private readonly long _tickCount;

    private Deadline(long tickCount)
    {
        _tickCount = tickCount;
    }

    /// <summary>The deadline that never passes.</summary>
    public static Deadline Never => new(long.MaxValue);

    /// <summary>Whether no time is left.</summary>
    public bool HasPassed => RemainingMilliseconds == 0;

    /// <summary>Milliseconds left, as poll(2) takes them: 0 when it has passed, -1 when it never passes.</summary>
    public int RemainingMilliseconds => _tickCount == long.MaxValue
        ? -1
        : (int)Math.Clamp(_tickCount - Environment.TickCount64, 0, int.MaxValue);

    /// <summary>
    /// The deadline <paramref name="time"/> from now; <see cref="Timeout.InfiniteTimeSpan"/> is
    /// <see cref="Never"/>.
    /// </summary>
    public static Deadline After(TimeSpan time) => time == Timeout.InfiniteTimeSpan
        ? Never
        : new(Environment.TickCount64 + (long)Math.Ceiling(Math.Max(0, time.TotalMilliseconds)));

    /// <summary>The one that passes first.</summary>
    public static Deadline Earliest(Deadline first, Deadline second) =>
        first._tickCount <= second._tickCount ? first : second;

    /// <summary>Whether both are the same point in time.</summary>
    public static bool operator ==(Deadline left, Deadline right) => left.Equals(right);

    /// <summary>Whether they are different points in time.</summary>
    public static bool operator !=(Deadline left, Deadline right) => !left.Equals(right);

    /// <inheritdoc/>
    public bool Equals(Deadline other) => _tickCount == other._tickCount;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Deadline other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => _tickCount.GetHashCode();
}
