using System.Globalization;

namespace IntegrationTests.Fixtures;

/// <summary>
/// A program whose threads write 1 MiB each past the page cache, again and again, each to its own MiB, until a write
/// fails. It then tells how far each came.
/// </summary>
internal sealed class LargeWriters
{
    public const int Threads = 6;
    public const int WriteBytes = 1 << 20;

    // A write is its thread's number and its own number, over and over.
    private const int UnitBytes = 8;

    private LargeWriters(BackgroundProcess process)
    {
        Process = process;
    }

    public BackgroundProcess Process { get; }

    /// <param name="start">Starts a program.</param>
    /// <param name="file">What to write to; of at least a MiB for each thread.</param>
    public static LargeWriters Start(Func<string, string[], BackgroundProcess> start, string file) => new(start(
        "python3",
        [
            "-c",
            $"""
            import errno, mmap, os, struct, sys, threading
            file = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
            written = [0] * {Threads}
            ends = [''] * {Threads}
            def write(i):
                memory = mmap.mmap(-1, {WriteBytes})
                try:
                    while True:
                        memory[:] = struct.pack('<II', i, written[i] + 1) * {WriteBytes / UnitBytes}
                        if os.pwrite(file, memory, i * {WriteBytes}) < {WriteBytes}:
                            ends[i] = 'SHORT'
                            return
                        written[i] += 1
                except OSError as error:
                    ends[i] = errno.errorcode[error.errno]
            threads = [threading.Thread(target=write, args=(i,)) for i in range({Threads})]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            for i in range({Threads}): print('thread', i, written[i], ends[i], flush=True)
            """,
            file,
        ]));

    /// <summary>Waits for the end; returns, of each thread, how many writes succeeded and how the last one failed.</summary>
    public IReadOnlyList<(uint Written, string End)> WaitForEnd()
    {
        Assert.Equal(0, Process.WaitForExit());
        string[][] lines =
        [
            .. Process.Log.Split('\n').Select(line => line.Split(' ')).Where(words => words is ["thread", _, _, _]),
        ];
        Assert.Equal(Threads, lines.Length);
        return [.. lines.Select(words => (uint.Parse(words[2], CultureInfo.InvariantCulture), words[3]))];
    }

    /// <summary>All that succeeded is there; of the write that failed there may be any part.</summary>
    public static void Check(IReadOnlyList<(uint Written, string End)> ends, ReadOnlySpan<byte> content)
    {
        for (int i = 0; i < Threads; i++)
        {
            ReadOnlySpan<byte> part = content.Slice(i * WriteBytes, WriteBytes);
            uint written = ends[i].Written;
            for (int at = 0; at < WriteBytes; at += UnitBytes)
            {
                (uint thread, uint number) = (BitConverter.ToUInt32(part[at..]), BitConverter.ToUInt32(part[(at + 4)..]));
                if (number - written > 1 || (number > 0 && thread != i))
                {
                    Assert.Fail($"thread {i} wrote {written} times; at {at} there is number {number} of thread {thread}");
                }
            }
        }
    }
}
