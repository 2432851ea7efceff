using System.Runtime.InteropServices;

namespace Tools;

/// <summary>SIGINT, SIGTERM, SIGHUP and SIGQUIT ask us to stop; SIGUSR1 for a line of statistics.</summary>
internal sealed class StopSignals : IDisposable
{
    private const int Usr1 = 10;

    private readonly ManualResetEvent _received = new(false);
    private readonly CancellationTokenSource _cancellation = new();
    private readonly List<PosixSignalRegistration> _registrations;

    internal StopSignals()
    {
        PosixSignal[] signals = [PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT];
        _registrations = signals.Select(signal => PosixSignalRegistration.Create(signal, OnStop)).ToList();
        _registrations.Add(PosixSignalRegistration.Create((PosixSignal)Usr1, OnStatistics));
    }

    /// <summary>Set once a signal came.</summary>
    internal WaitHandle Received => _received;

    /// <summary>Cancelled once a signal came.</summary>
    internal CancellationToken Token => _cancellation.Token;

    /// <summary>Called for SIGUSR1, on a thread of the runtime.</summary>
    internal Action? StatisticsAskedFor { get; set; }

    public void Dispose()
    {
        _registrations.ForEach(registration => registration.Dispose());
        _received.Dispose();
        _cancellation.Dispose();
    }

    private void OnStop(PosixSignalContext context)
    {
        context.Cancel = true;
        _received.Set();
        _cancellation.Cancel();
    }

    private void OnStatistics(PosixSignalContext context)
    {
        context.Cancel = true;
        StatisticsAskedFor?.Invoke();
    }
}
