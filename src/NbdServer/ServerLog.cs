namespace Nbd;

/// <summary>
/// The log, protected from clients that cause lines on purpose: so many each second, then a count. Thread-safe.
/// </summary>
internal sealed class ServerLog(Action<string>? write)
{
    private const int MaximumPerSecond = 50;

    // Guards all below.
    private readonly Lock _gate = new();
    private long _second;
    private int _lines;
    private int _dropped;

    /// <summary>Writes a line, unless there were too many.</summary>
    public void Write(string line)
    {
        if (write is null)
        {
            return;
        }

        int dropped;
        lock (_gate)
        {
            long second = Environment.TickCount64 / 1000;
            if (second != _second)
            {
                (_second, _lines) = (second, 0);
            }

            if (_lines == MaximumPerSecond)
            {
                _dropped++;
                return;
            }

            _lines++;
            dropped = _dropped;
            _dropped = 0;
        }

        if (dropped > 0)
        {
            write($"({dropped} lines were left out)");
        }

        write(line);
    }
}
