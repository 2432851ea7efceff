namespace NbdServe;

/// <summary>
/// Ends the process if its orderly end takes too long: a disk that hangs can block any of our threads for ever, in
/// open, read, write, fdatasync and close. The time counts from the signal. Thread-safe.
/// </summary>
internal sealed class StopLimit : IDisposable
{
    /// <summary>From the signal to the end of the process.</summary>
    internal static readonly TimeSpan Total = TimeSpan.FromSeconds(5);

    private readonly ManualResetEvent _over = new(false);
    private readonly Action<string> _giveUp;
    private readonly Thread _thread;
    private volatile string _step = "starting";

    /// <param name="signal">Begins to count.</param>
    /// <param name="giveUp">Ends the process; gets the step that does not end.</param>
    internal StopLimit(WaitHandle signal, Action<string> giveUp)
    {
        _giveUp = giveUp;
        _thread = new Thread(() => Watch(signal)) { Name = "stop limit", IsBackground = true };
        _thread.Start();
    }

    /// <summary>What is being done now, for the message.</summary>
    internal string Step
    {
        set => _step = value;
    }

    /// <summary>Does not wait for what hangs.</summary>
    internal void GiveUp() => _giveUp(_step);

    /// <summary>The end was reached in time.</summary>
    public void Dispose()
    {
        _over.Set();
        _thread.Join();
        _over.Dispose();
    }

    private void Watch(WaitHandle signal)
    {
        if (WaitHandle.WaitAny([_over, signal]) != 0 && !_over.WaitOne(Total))
        {
            GiveUp();
        }
    }
}
