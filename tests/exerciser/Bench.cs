using System.Diagnostics;
using Tmds.Linux;

namespace Exerciser;

/// <summary>The file, its model, and what the threads share. Thread-safe under the rules of <see cref="RangeLocks"/>.</summary>
internal sealed unsafe class Bench : IDisposable
{
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly DiskFile? _backing;
    private volatile bool _isCancelled;

    /// <summary>The model starts as what the file holds now.</summary>
    public Bench(Settings settings)
    {
        Settings = settings;
        using (DiskFile file = DiskFile.Open(settings.File, LibC.O_RDWR))
        {
            byte[] content = new byte[checked((int)file.SizeBytes)];
            Model = new(content);
            ReadAll(file, content);
            Locks = new(content.Length, settings.Granule);
            if (!Without("mmap"))
            {
                Memory = file.Map(content.Length);
            }
        }

        _backing = settings.Backing is string path ? DiskFile.Open(path, LibC.O_RDONLY) : null;
    }

    public Settings Settings { get; }

    public Model Model { get; }

    public RangeLocks Locks { get; }

    public OperationLog Log { get; } = new();

    /// <summary>The whole file, mapped; null without mmap.</summary>
    public byte* Memory { get; }

    public bool IsOver => _isCancelled || Stopwatch.GetElapsedTime(_start) >= Settings.Duration;

    public void Cancel() => _isCancelled = true;

    // Threads that share a page cannot map it: the kernel's cache does not order stores with direct I/O.
    public bool Without(string operation) =>
        Settings.Without.Contains(operation) || (operation == "mmap" && Settings.Granule < Environment.SystemPageSize);

    /// <summary>After a write: is it in the backing image, if that was promised?</summary>
    public void CheckWritten(ByteRange range, string what)
    {
        if (Settings.Promise == Promise.Write)
        {
            CheckSynced(range, what);
        }
    }

    /// <summary>After a sync: is it in the backing image?</summary>
    public void CheckSynced(ByteRange range, string what)
    {
        if (_backing is not null && Model.IsSynced(range) && range.Within(Model.SizeBytes) is int length and > 0)
        {
            byte[] found = new byte[length];
            _backing.Read(found, range.Offset);
            Model.Check($"the backing image after {what}", range.Offset, found);
        }
    }

    /// <summary>All of the file, by every way there is, and the backing image. No thread may be at work.</summary>
    public void CheckAll()
    {
        byte[] content = new byte[Model.SizeBytes];
        using (DiskFile file = DiskFile.Open(Settings.File, LibC.O_RDWR))
        {
            if (file.SizeBytes != Model.SizeBytes)
            {
                throw new MismatchException($"the size is {file.SizeBytes} instead of {Model.SizeBytes}");
            }

            if (Memory is not null)
            {
                new ReadOnlySpan<byte>(Memory, content.Length).CopyTo(content);
                Model.Check("at the end, mapped", 0, content);
            }

            ReadAll(file, content);
            Model.Check("at the end, from the cache", 0, content);
            file.Sync(dataOnly: false);
            file.Forget(new(0, Model.SizeBytes));
            ReadAll(file, content);
            Model.Check("at the end, from the server", 0, content);
        }

        Model.MarkUnsynced(new(0, Model.SizeBytes), false);
        CheckSynced(new(0, Model.SizeBytes), "all");
    }

    public void Dispose()
    {
        _backing?.Dispose();
        if (Memory is not null)
        {
            _ = LibC.munmap(Memory, Model.SizeBytes);
        }
    }

    private static void ReadAll(DiskFile file, Span<byte> destination)
    {
        for (int done = 0; done < destination.Length;)
        {
            Span<byte> part = destination.Slice(done, Math.Min(1 << 20, destination.Length - done));
            long count = file.Read(part, done);
            if (count <= 0)
            {
                throw new MismatchException($"read of {part.Length} bytes: result {count}", done);
            }

            done += (int)count;
        }
    }
}
