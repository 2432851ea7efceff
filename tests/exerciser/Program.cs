using Exerciser;

const int Hung = 3;

Settings settings;
try
{
    settings = Settings.Parse(args);
}
catch (Exception e) when (e is FormatException or ArgumentException)
{
    Console.Error.WriteLine($"exerciser: {e.Message}\n{Settings.Usage}");
    return 2;
}

Console.WriteLine($"exerciser: seed {settings.Seed}, {settings.Threads} threads, granule {settings.Granule}, {settings.File}");
using Bench bench = new(settings);
Exception? failure = null;
Thread[] threads = [.. Enumerable.Range(0, settings.Threads).Select(number => new Thread(() => Work(number)))];
using Timer watchdog = new(_ => EndWhenHung(), null, TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(5));
foreach (Thread thread in threads)
{
    thread.Start();
}

foreach (Thread thread in threads)
{
    thread.Join();
}

if (failure is null)
{
    Guarded(bench.CheckAll);
}

if (settings.SavedModel is string path)
{
    File.WriteAllBytes(path, bench.Model.Content);
}

if (failure is not null)
{
    long? offset = (failure as MismatchException)?.Offset;
    Console.WriteLine($"{bench.Log.Tail(offset)}\nexerciser: FAILED, seed {settings.Seed}: {failure.Message}");
    return 1;
}

Console.WriteLine($"exerciser: {bench.Log.Count} operations, all as in the model");
return 0;

void Work(int number) => Guarded(() =>
{
    using Worker worker = new(bench, number);
    worker.Run();
});

// The first failure counts; it ends all threads.
void Guarded(Action action)
{
    try
    {
        action();
    }
    catch (Exception e) when (e is MismatchException or IOException)
    {
        Interlocked.CompareExchange(ref failure, e, null);
        bench.Cancel();
    }
}

void EndWhenHung()
{
    if (bench.Log.SinceLastProgress > TimeSpan.FromSeconds(60))
    {
        Console.WriteLine($"{bench.Log.Tail(null)}\nexerciser: HUNG, seed {settings.Seed}: no operation ended for 60 s");
        Environment.Exit(Hung);
    }
}
