using Nbd;

namespace NbdFuse;

/// <summary>
/// Tells once what happened when several connections are lost together. One server that goes away may close some of them and
/// reset others, which makes different messages. Thread-safe.
/// </summary>
/// <param name="warn">Told.</param>
/// <param name="clock">The time.</param>
internal sealed class LossReport(Action<string> warn, TimeProvider clock)
{
    private static readonly TimeSpan s_together = TimeSpan.FromSeconds(1);

    // Guards the fields that follow.
    private readonly Lock _gate = new();
    private string? _lastTold;
    private long _toldAt;

    internal void Tell(NbdException reason)
    {
        lock (_gate)
        {
            if (reason.Message == _lastTold || (_lastTold is not null && clock.GetElapsedTime(_toldAt) < s_together))
            {
                return;
            }

            _lastTold = reason.Message;
            _toldAt = clock.GetTimestamp();
        }

        warn($"{reason.Message}; requests that need the connection fail with EIO");
    }
}
