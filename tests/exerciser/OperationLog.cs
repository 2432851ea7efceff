using System.Diagnostics;

namespace Exerciser;

/// <summary>The last operations, for the report of a mismatch. Thread-safe.</summary>
internal sealed class OperationLog
{
    private const int Kept = 20_000;

    /// <summary>Guards everything here.</summary>
    private readonly Queue<Entry> _entries = new();

    private long _count;
    private long _lastProgress = Stopwatch.GetTimestamp();

    public long Count => Interlocked.Read(ref _count);

    public TimeSpan SinceLastProgress => Stopwatch.GetElapsedTime(Interlocked.Read(ref _lastProgress));

    public void Add(int thread, ByteRange range, string what)
    {
        lock (_entries)
        {
            _entries.Enqueue(new(_count++, thread, range, what));
            if (_entries.Count > Kept)
            {
                _entries.Dequeue();
            }
        }

        Interlocked.Exchange(ref _lastProgress, Stopwatch.GetTimestamp());
    }

    /// <summary>The last operations, and the last of those that touched <paramref name="offset"/>.</summary>
    public string Tail(long? offset)
    {
        lock (_entries)
        {
            IEnumerable<string> lines = ["the last operations:", .. _entries.TakeLast(30).Select(entry => entry.ToString())];
            if (offset is long place)
            {
                lines = lines.Append($"the last operations on offset 0x{place:x}:").Concat(
                    _entries.Where(entry => entry.Range.Has(place)).TakeLast(20).Select(entry => entry.ToString()));
            }

            return string.Join('\n', lines);
        }
    }

    private readonly record struct Entry(long Number, int Thread, ByteRange Range, string What)
    {
        public override string ToString() => $"  #{Number} thread {Thread}: {What} {Range}";
    }
}
