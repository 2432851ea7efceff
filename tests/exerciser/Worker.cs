using Linux;
using Tmds.Linux;

namespace Exerciser;

/// <summary>One thread's random operations. Every result is compared with the model.</summary>
internal sealed unsafe partial class Worker : IDisposable
{
    private readonly Bench _bench;
    private readonly int _thread;
    private readonly Random _random;
    private readonly NativeBuffer _buffer;
    private readonly (string Name, int Weight, Action Run)[] _operations;
    private readonly int _totalWeight;
    private Descriptors _files;
    private long _streamPosition;

    public Worker(Bench bench, int thread)
    {
        _bench = bench;
        _thread = thread;
        _random = new(HashCode(bench.Settings.Seed, thread));
        _buffer = new(bench.Settings.MaxLength + 8192);
        _files = new(bench);
        (string Name, int Weight, Action Run)[] all =
        [
            ("write", 20, () => Write(_files.Buffered, "write")),
            ("direct", 10, () => Write(_files.Direct, "direct write")),
            ("dsync", 4, () => Write(_files.Durable, "O_DSYNC write")),
            ("read", 20, () => Read(_files.Buffered, "read")),
            ("direct", 10, () => Read(_files.Direct, "direct read")),
            ("stream", 15, ReadNext),
            ("mmap", 8, ReadMapped),
            ("mmap", 8, WriteMapped),
            ("mmap", 3, SyncMapped),
            ("punch", 5, () => Zero(LibC.FALLOC_FL_PUNCH_HOLE | LibC.FALLOC_FL_KEEP_SIZE, "punch")),
            ("zero", 4, () => Zero(DiskFile.ZeroRange, "zero")),
            ("zero", 2, () => Zero(DiskFile.ZeroRange | LibC.FALLOC_FL_KEEP_SIZE, "zero, keep size")),
            ("allocate", 2, Allocate),
            ("seek", 6, Seek),
            ("sync", 3, Sync),
            ("forget", 6, Forget),
            ("copy", 3, Copy),
            ("truncate", 1, Truncate),
            ("append", 1, Append),
            ("reopen", 1, Reopen),
        ];
        _operations = [.. all.Where(operation => !bench.Without(operation.Name))];
        _totalWeight = _operations.Sum(operation => operation.Weight);
    }

    public void Run()
    {
        int limit = _bench.Settings.Operations;
        for (int i = 0; (limit == 0 || i < limit) && !_bench.IsOver; i++)
        {
            int choice = _random.Next(_totalWeight);
            int next = 0;
            while (choice >= _operations[next].Weight)
            {
                choice -= _operations[next++].Weight;
            }

            _operations[next].Run();
        }
    }

    public void Dispose()
    {
        _files.Dispose();
        _buffer.Dispose();
    }

    // Not System.HashCode: that differs from process to process.
    private static int HashCode(int seed, int thread) => unchecked((seed * 31) + (thread * 7919));

    /// <summary>A place that matters: near block and page boundaries, the ends of the file, the same few again and again.</summary>
    private ByteRange Pick(bool insideOnly = false)
    {
        insideOnly |= _bench.Without("overrun");
        long size = _bench.Model.SizeBytes;
        int most = (int)Math.Min(_bench.Settings.MaxLength, size);
        int length = _random.Next(8) switch
        {
            0 => _random.Next(1, 32),
            1 => 512 * _random.Next(1, 9),
            2 => 4096 * _random.Next(1, 9),
            3 => 65536,
            4 => most - _random.Next(0, 2),
            _ => _random.Next(1, most + 1),
        };
        length = Math.Clamp(length, 1, most);
        long offset = _random.Next(8) switch
        {
            0 => size - length - _random.Next(0, 3),
            1 => insideOnly ? size - length : size - _random.Next(-8192, length + 1),
            2 => _random.Next(0, 65536),
            3 => (_random.NextInt64(0, size) & ~65535L) + _random.Next(-1, 2),
            4 => _random.NextInt64(0, size) & ~4095L,
            5 => _random.NextInt64(0, size) & ~511L,
            _ => _random.NextInt64(0, size),
        };
        offset = Math.Clamp(offset, 0, insideOnly ? size - length : size + 8192);
        return new(offset, length);
    }

    private void Fill(int length)
    {
        Span<byte> data = new(_buffer.Start, length);
        int kind = _random.Next(10);
        if (kind == 0)
        {
            data.Clear();
        }
        else
        {
            // All bytes of an operation differ from those of the one before: stale data shows.
            _random.NextBytes(data);
        }
    }

    private void Locked(ByteRange range, string what, Action<ByteRange> run)
    {
        _bench.Locks.Take(range);
        try
        {
            _bench.Log.Add(_thread, range, what);
            run(range);
        }
        finally
        {
            _bench.Locks.Give(range);
        }
    }

    private static void Expect(long expected, long actual, string what, ByteRange range)
    {
        if (actual != expected)
        {
            throw new MismatchException($"{what} {range}: result {Text(actual)} instead of {Text(expected)}", range.Offset);
        }
    }

    private static string Text(long result) => result < 0 ? $"{result} ({LinuxException.Describe((Errno)(-result))})" : $"{result}";
}
