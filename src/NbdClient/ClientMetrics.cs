using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// The statistics of all clients of the process, as the meter "NbdClient". While nobody listens a command costs a few
/// reads of memory. Thread-safe.
/// </summary>
internal static class ClientMetrics
{
    private const string CommandTag = "nbd.command";

    private static readonly ConcurrentDictionary<NbdClient, bool> s_clients = new();
    private static readonly Meter s_meter = new("NbdClient");

    private static readonly Counter<long> s_commands = s_meter.CreateCounter<long>(
        "nbd.client.commands", "{command}", "Commands that ended, well or not.");

    private static readonly Counter<long> s_errors = s_meter.CreateCounter<long>(
        "nbd.client.errors", "{command}", "Commands that failed.");

    private static readonly Counter<long> s_bytes = s_meter.CreateCounter<long>(
        "nbd.client.bytes", "By", "Bytes of the ranges of commands that succeeded.");

    private static readonly Histogram<double> s_duration = s_meter.CreateHistogram<double>(
        "nbd.client.command.duration", "s", "Time from the call to the last reply.");

    // Kept in a field like the others; it is read whenever a listener asks.
    private static readonly ObservableUpDownCounter<long> s_inFlight = s_meter.CreateObservableUpDownCounter(
        "nbd.client.commands.in_flight",
        static () => s_clients.Keys.Sum(client => (long)client.CommandsInFlight),
        "{command}",
        "Commands that were begun and did not end.");

    internal static void Add(NbdClient client) => s_clients.TryAdd(client, true);

    internal static void Remove(NbdClient client) => s_clients.TryRemove(client, out _);

    /// <summary>A command begins.</summary>
    /// <returns>For <see cref="End"/>; 0 when nobody listens.</returns>
    internal static long Begin() =>
        s_commands.Enabled || s_errors.Enabled || s_bytes.Enabled || s_duration.Enabled
            ? Stopwatch.GetTimestamp()
            : 0;

    /// <summary>It ended. That it had been cancelled or given up before makes no difference.</summary>
    internal static void End(NbdCommandType type, long started, long length, Errno outcome)
    {
        if (started == 0)
        {
            return;
        }

        KeyValuePair<string, object?> command = new(CommandTag, NbdClient.NameOf(type));
        s_commands.Add(1, command);
        s_duration.Record(Stopwatch.GetElapsedTime(started).TotalSeconds, command);
        if (outcome == Errno.None)
        {
            s_bytes.Add(length, command);
        }
        else
        {
            s_errors.Add(1, command, new KeyValuePair<string, object?>("error.type", outcome.ToString()));
        }
    }
}
