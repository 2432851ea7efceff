using Nbd;

namespace NbdFuse;

/// <summary>Tells once what happened when several connections are lost for one reason. Thread-safe.</summary>
/// <param name="warn">Told.</param>
internal sealed class LossReport(Action<string> warn)
{
    // Guards _lastTold.
    private readonly Lock _gate = new();
    private string? _lastTold;

    internal void Tell(NbdException reason)
    {
        lock (_gate)
        {
            if (reason.Message == _lastTold)
            {
                return;
            }

            _lastTold = reason.Message;
        }

        warn($"{reason.Message}; requests that need the connection fail with EIO");
    }
}
