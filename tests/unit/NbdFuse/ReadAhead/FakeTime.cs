namespace UnitTests.NbdFuseTests;

/// <summary>A clock that stands still until it is moved, with one timer that fires when it is told to.</summary>
internal sealed class FakeTime : TimeProvider
{
    private readonly List<FakeTimer> _timers = [];
    private TimeSpan _now = TimeSpan.FromDays(1);

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => _now.Ticks;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        FakeTimer timer = new(() => callback(state), dueTime);
        _timers.Add(timer);
        return timer;
    }

    /// <summary>Whether something is to happen later.</summary>
    public bool IsTimerSet => _timers.Exists(timer => timer.Due != Timeout.InfiniteTimeSpan);

    /// <summary>Moves on; timers that are due fire on the way.</summary>
    public void Advance(TimeSpan time)
    {
        TimeSpan end = _now + time;
        while (_timers.Where(timer => timer.Due != Timeout.InfiniteTimeSpan).MinBy(timer => timer.Due) is FakeTimer next
            && _now + next.Due <= end)
        {
            Move(next.Due);
            next.Due = Timeout.InfiniteTimeSpan;
            next.Fire();
        }

        Move(end - _now);
    }

    private void Move(TimeSpan time)
    {
        _now += time;
        _timers.ForEach(timer => timer.Due -= timer.Due == Timeout.InfiniteTimeSpan ? TimeSpan.Zero : time);
    }

    private sealed class FakeTimer(Action fire, TimeSpan due) : ITimer
    {
        public TimeSpan Due { get; set; } = due;

        public Action Fire { get; } = fire;

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            Due = dueTime;
            return true;
        }

        public void Dispose()
        {
        }

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
