using System.Diagnostics;
using System.Text.Json.Nodes;
using ClientBench;

// Keeps DEPTH commands in flight at random offsets, and prints what came of it.
if (args.Length is not (6 or 7))
{
    Console.Error.WriteLine("usage: clientbench URI completion|async|synchronous read|write BLOCK DEPTH SECONDS [CONNECTIONS]");
    return 2;
}

TimeSpan warmUp = TimeSpan.FromMilliseconds(200);
Workload workload = new(
    args[0], args[2] == "write", int.Parse(args[3]), int.Parse(args[4]), args.Length > 6 ? int.Parse(args[6]) : null);
await using Load load = args[1] == "completion"
    ? CompletionLoad.Start(workload)
    : await AsyncLoad.StartAsync(workload, isSynchronous: args[1] == "synchronous");
await Task.Delay(warmUp);
(long operations, long allocated, long start) = Now();
await Task.Delay(TimeSpan.FromSeconds(double.Parse(args[5])));
(long operationsAtEnd, long allocatedAtEnd, long end) = Now();
operations = operationsAtEnd - operations;
double seconds = Stopwatch.GetElapsedTime(start, end).TotalSeconds;
Console.WriteLine(new JsonObject
{
    ["iops"] = operations / seconds,
    ["bytes_per_second"] = operations * workload.BlockBytes / seconds,
    ["allocated_per_operation"] = (double)(allocatedAtEnd - allocated) / Math.Max(1, operations),
    ["connections"] = load.Connections,
}.ToJsonString());
return 0;

(long Operations, long Allocated, long Time) Now() =>
    (load.Operations, GC.GetTotalAllocatedBytes(precise: true), Stopwatch.GetTimestamp());
