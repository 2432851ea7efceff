namespace Fuse;

/// <summary>Passes messages on, at most one of a kind in ten seconds. Thread-safe.</summary>
internal sealed class FuseWarnings
{
    private const long IntervalMilliseconds = 10_000;

    // Guards _kinds.
    private readonly Lock _gate = new();
    private readonly Dictionary<string, (long Next, int Suppressed)> _kinds = [];
    private readonly Action<string>? _warn;

    internal FuseWarnings(Action<string>? warn)
    {
        _warn = warn;
    }

    /// <param name="kind">From a small fixed set: each stays in memory.</param>
    /// <param name="message">One line.</param>
    internal void Report(string kind, string message)
    {
        if (_warn is null)
        {
            return;
        }

        long now = Environment.TickCount64;
        int suppressed = 0;
        lock (_gate)
        {
            if (_kinds.TryGetValue(kind, out (long Next, int Suppressed) last))
            {
                if (now < last.Next)
                {
                    _kinds[kind] = last with { Suppressed = last.Suppressed + 1 };
                    return;
                }

                suppressed = last.Suppressed;
            }

            _kinds[kind] = (now + IntervalMilliseconds, 0);
        }

        _warn(suppressed == 0 ? message : $"{message} ({suppressed} more like this were not shown)");
    }
}
