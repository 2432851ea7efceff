using Nbd;

namespace NbdFuse;

/// <summary>Tells once what happened when several connections are lost for one reason. Thread-safe.</summary>
internal sealed class LossReport(Log log)
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

        log.Write($"{reason.Message}; requests that need the connection fail with EIO");
    }
}
