using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// Where the holes of an export are: asks the server when somebody wants to know, in large ranges, and keeps what it
/// says. While the server does not tell, everything is data. Thread-safe.
/// </summary>
internal sealed class ExtentSource
{
    // Of a request with compact headers. nbdkit 1.32 ends with a failed assertion when 2^32-1 bytes are one extent.
    private const ulong LongestCompact = 1UL << 31;
    private const ulong ShortestStep = 64UL << 20;
    private const ulong FirstExtendedStep = 32UL << 30;

    // Answers that come later, or sooner, make the next range shorter, or longer.
    private static readonly TimeSpan s_slowAnswer = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_quickAnswer = TimeSpan.FromMilliseconds(10);

    // Nobody waits for a server that is slower.
    private static readonly TimeSpan s_beginning = TimeSpan.FromMilliseconds(2);

    // A server that refuses, or an export that has more extents than a map, is not asked again for so long.
    private static readonly TimeSpan s_pause = TimeSpan.FromSeconds(5);

    private const int Lanes = 4;

    // 32 TiB of ranges of 2 GiB.
    private const int MaximumInquiries = 16 << 10;

    private readonly ulong _size;
    private readonly ulong _largestStep;
    private readonly ulong _payloadStep;
    private readonly int _context;
    private readonly Func<ulong, ulong, NbdBlockStatusCompletion, Errno> _send;
    private readonly Action<string> _tell;
    private readonly TimeProvider _time;
    private ulong _step;
    private long _refusedUntil;
    private long _mapAgainFrom;
    private long _mappingSince;
    private int _wasTold;
    private Task _mapping = Task.CompletedTask;
    private int _commands;

    /// <param name="size">Bytes of the export that are shown, at least 1.</param>
    /// <param name="export">What the server said of the export.</param>
    /// <param name="context">Number of base:allocation among its meta contexts.</param>
    /// <param name="lifetime">How long an answer is believed at most.</param>
    /// <param name="send">Sends a BLOCK_STATUS of so many bytes at an offset.</param>
    /// <param name="tell">Told once when the server refuses.</param>
    /// <param name="time">The clock.</param>
    internal ExtentSource(
        ulong size,
        NbdExport export,
        int context,
        TimeSpan lifetime,
        Func<ulong, ulong, NbdBlockStatusCompletion, Errno> send,
        Action<string> tell,
        TimeProvider time)
    {
        (_size, _context, _send, _tell, _time) = (size, context, send, tell, time);
        ulong block = (ulong)export.MinimumBlockBytes;
        _largestStep = export.ExtendedHeaders ? 1UL << 62 : LongestCompact;
        _payloadStep = (ulong)export.MaximumPayloadBytes & ~(block - 1);
        _step = export.ExtendedHeaders ? FirstExtendedStep : LongestCompact;
        Tracker = new ExtentTracker(size, block, lifetime, time);
    }

    /// <summary>What is known; to be told of each change.</summary>
    internal ExtentTracker Tracker { get; }

    /// <summary>Commands that ask, and are not answered.</summary>
    internal int Commands => Volatile.Read(ref _commands);

    /// <summary>Whether all of the export is being asked about.</summary>
    internal bool IsMapping => !Volatile.Read(ref _mapping).IsCompleted;

    /// <summary>Whether that began a moment ago.</summary>
    internal bool HasBegunToMap =>
        IsMapping && _time.GetElapsedTime(Volatile.Read(ref _mappingSince)) < s_beginning;

    private bool IsRefusing => _time.GetTimestamp() < Volatile.Read(ref _refusedUntil);

    /// <summary>What is known of a byte and its neighbours; data while the server does not tell.</summary>
    internal ExtentRun Find(ulong position)
    {
        ExtentRun run = Tracker.Find(position);
        return run.Kind == ExtentKind.Unknown && IsRefusing ? run with { Kind = ExtentKind.Data } : run;
    }

    /// <summary>Asks about a byte.</summary>
    /// <returns>Completes, without fail, when more is known.</returns>
    internal Task Learn(ulong position)
    {
        ExtentInquiry? inquiry = Tracker.Ask(position, Volatile.Read(ref _step), out bool isNew);
        if (isNew)
        {
            _ = Run(inquiry!);
        }

        return inquiry?.Done ?? Task.CompletedTask;
    }

    /// <summary>Sees to it that all of the export becomes known, if that is possible.</summary>
    /// <returns>Completes, without fail, when nothing more is being asked for.</returns>
    internal Task Map()
    {
        Task running = Volatile.Read(ref _mapping);
        if (!running.IsCompleted)
        {
            return running;
        }

        _ = Tracker.HoleBytes(0, 0, out bool isWhole);
        if (isWhole || IsRefusing || _time.GetTimestamp() < Volatile.Read(ref _mapAgainFrom))
        {
            return Task.CompletedTask;
        }

        TaskCompletionSource done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Task other = Interlocked.CompareExchange(ref _mapping, done.Task, running);
        if (other != running)
        {
            return other;
        }

        Volatile.Write(ref _mappingSince, _time.GetTimestamp());
        _ = MapAll(done);
        return done.Task;
    }

    private async Task MapAll(TaskCompletionSource done)
    {
        int inquiries = 0;
        await Task.WhenAll(Enumerable.Range(0, Lanes).Select(_ => MapLane())).ConfigureAwait(false);
        if (inquiries > MaximumInquiries || !Tracker.HasRoom)
        {
            Volatile.Write(ref _mapAgainFrom, Later(s_pause));
        }

        done.SetResult();

        async Task MapLane()
        {
            while (!IsRefusing && Tracker.HasRoom && Interlocked.Increment(ref inquiries) <= MaximumInquiries
                && Tracker.AskNext(Volatile.Read(ref _step)) is ExtentInquiry inquiry)
            {
                await Run(inquiry).ConfigureAwait(false);
            }
        }
    }

    private async Task Run(ExtentInquiry inquiry)
    {
        ulong length = inquiry.End - inquiry.Start;
        ExtentAnswer answer = new(_context, inquiry.Start, _size);
        long sent = _time.GetTimestamp();
        _ = Interlocked.Increment(ref _commands);
        Errno error = _send(inquiry.Start, length, answer);
        if (error == Errno.None)
        {
            error = await answer.Outcome.ConfigureAwait(false);
        }

        _ = Interlocked.Decrement(ref _commands);
        if (error == Errno.None)
        {
            Tracker.End(inquiry, answer.Runs);
            Adapt(length, _time.GetElapsedTime(sent));
            return;
        }

        if (error is Errno.EINVAL or Errno.EOVERFLOW && length > _payloadStep)
        {
            // A server may refuse what is longer than a payload (proto.md, "Size constraints").
            Volatile.Write(ref _step, _payloadStep);
        }
        else
        {
            Volatile.Write(ref _refusedUntil, Later(s_pause));
            if (Interlocked.Exchange(ref _wasTold, 1) == 0)
            {
                _tell($"the server does not tell where holes are: {LinuxException.Describe(error)}; all is taken for data");
            }
        }

        Tracker.End(inquiry, []);
    }

    private void Adapt(ulong length, TimeSpan took)
    {
        ulong step = Volatile.Read(ref _step);
        if (length != step || step <= _payloadStep)
        {
            return;
        }

        if (took < s_quickAnswer)
        {
            Volatile.Write(ref _step, Math.Min(step * 2, _largestStep));
        }
        else if (took > s_slowAnswer)
        {
            Volatile.Write(ref _step, Math.Max(step / 2, ShortestStep));
        }
    }

    private long Later(TimeSpan span) =>
        _time.GetTimestamp() + (long)(span.TotalSeconds * _time.TimestampFrequency);
}
