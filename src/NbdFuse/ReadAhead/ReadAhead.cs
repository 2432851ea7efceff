using Fuse;
using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// Reads ahead of those who read a file from front to back: large blocks, as many as the way to the server needs, so
/// that a READ finds its data here or on its way. Thread-safe.
/// </summary>
/// <remarks>
/// <para>What is true: a READ gets no byte that is older than a change that was answered before the READ came. A change
/// drops the blocks of its range before its first command is sent, and no block of its range is asked for until it is
/// answered. READs that had a block by then were there before the answer.</para>
/// <para>Changes of other clients show at the latest <see cref="Lifetime"/> after a block has come: then it is
/// dropped. At an open, when the kernel asks anew too, all blocks are.</para>
/// <para>A block that failed is dropped, and who waited for it asks the server himself: an error is only shown to
/// whoever asked for that byte.</para>
/// </remarks>
internal sealed unsafe partial class ReadAhead : IDisposable
{
    /// <summary>How long a block is kept, and how seldom a reader may read and still be one.</summary>
    internal static readonly TimeSpan Lifetime = TimeSpan.FromSeconds(1);

    private const uint LargeReadBytes = 512 << 10;
    private const int SeveralInFlight = 2;

    private readonly TimeProvider _time;
    private readonly BlockMemory _memory;
    private readonly ReadBlock _readBlock;
    private readonly Action<FuseRequest, ulong, uint> _readPlainly;
    private readonly Func<int> _commandsInFlight;
    private readonly ReadAheadLimits _limits;
    private readonly long _lifetime;

    // Guards everything below and all objects that it leads to. Nothing is sent or answered under it.
    private readonly Lock _gate = new();
    private readonly StreamTable _streams;
    private readonly FlightTime _flight;
    private readonly ReadAheadBlock[] _live;
    private int _liveCount;
    private RangeChange? _newestChange;
    private ReadAheadBlock? _idleBlocks;
    private QueuedRead? _idleReads;
    private long _readsAnswered;

    /// <param name="limits">What the export allows.</param>
    /// <param name="memory">For the blocks; may be shared.</param>
    /// <param name="readBlock">Sends the command for a block.</param>
    /// <param name="readPlainly">Answers a READ from the server.</param>
    /// <param name="commandsInFlight">How many commands the export's server has not answered, blocks and others.</param>
    /// <param name="time">Clock.</param>
    internal ReadAhead(
        ReadAheadLimits limits,
        BlockMemory memory,
        ReadBlock readBlock,
        Action<FuseRequest, ulong, uint> readPlainly,
        Func<int> commandsInFlight,
        TimeProvider time)
    {
        (_limits, _memory, _readBlock, _readPlainly, _time) = (limits, memory, readBlock, readPlainly, time);
        _commandsInFlight = commandsInFlight;
        _lifetime = (long)(Lifetime.TotalSeconds * time.TimestampFrequency);
        _streams = new StreamTable(_lifetime);
        _flight = new FlightTime(time);
        _live = new ReadAheadBlock[memory.Slots];
        _timer = time.CreateTimer(static self => ((ReadAhead)self!).Tick(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>Sends a READ whose completion is the block's.</summary>
    /// <returns>None if it was accepted.</returns>
    internal delegate Errno ReadBlock(ulong offset, byte* destination, uint length, NbdCompletion completion);

    /// <summary>READs that were answered from blocks so far.</summary>
    internal long ReadsAnswered => Volatile.Read(ref _readsAnswered);

    /// <summary>Answers a READ from blocks, now or when they have come, and asks for more of them.</summary>
    /// <param name="request">The READ.</param>
    /// <param name="offset">First byte, inside the file.</param>
    /// <param name="length">Bytes, at least 1, none beyond the end of the file.</param>
    /// <returns>False when the caller has to answer.</returns>
    internal bool TryRead(FuseRequest request, ulong offset, uint length)
    {
        ReadAheadBlock? toSend = null;
        QueuedRead? read = null;
        bool isReady = false;
        bool startsTicking = false;
        lock (_gate)
        {
            long now = _time.GetTimestamp();
            ReadAheadStream? stream = _streams.Find(offset, length, now);
            if (stream is not null && !KeepsSeveralInFlightLocked(request, length))
            {
                toSend = PlanLocked(stream, now);
                startsTicking = !_isTicking;
                _isTicking = true;
            }

            if (_liveCount > 0)
            {
                read = HoldBlocksLocked(request, offset, length, now);
                isReady = read is not null && !TryQueueLocked(read);
            }

            if (stream is not null)
            {
                if (!isReady && !_flight.HasQueue)
                {
                    stream.Grow(_flight.GrowthFactor, WindowLimitLocked());
                }

                DropPassedLocked(stream);
            }
        }

        Send(toSend);
        if (startsTicking)
        {
            _ = _timer.Change(s_tick, Timeout.InfiniteTimeSpan);
        }

        if (isReady)
        {
            Answer(read!);
        }

        return read is not null;
    }

    /// <summary>Called when the command of a block has completed, or was not accepted.</summary>
    internal void Arrived(ReadAheadBlock block, Errno outcome)
    {
        QueuedRead? ready = null;
        lock (_gate)
        {
            QueuedRead? waiting = ArrivedLocked(block, outcome);
            while (waiting is QueuedRead read)
            {
                waiting = read.Next;
                if (!TryQueueLocked(read))
                {
                    read.Next = ready;
                    ready = read;
                }
            }

            ReleaseLocked(block);
        }

        while (ready is QueuedRead read)
        {
            ready = read.Next;
            Answer(read);
        }
    }

    public void Dispose() => _timer.Dispose();

    private void Answer(QueuedRead read)
    {
        (FuseRequest request, ulong offset, uint length) = (read.Request, read.Offset, read.Length);
        bool hasFailed = read.HasFailed;
        if (!hasFailed)
        {
            iovec* parts = stackalloc iovec[QueuedRead.MaximumBlocks + 1];
            read.GetParts(parts + 1);
            request.ReplyParts(parts, read.Count + 1, length);
        }

        lock (_gate)
        {
            LetGoLocked(read);
            _readsAnswered += hasFailed ? 0 : 1;
        }

        if (hasFailed)
        {
            _readPlainly(request, offset, length);
        }
    }

    /// <summary>
    /// Whether a program reads as much as blocks have, several times at once, from a server that is near, to where the
    /// data can be received: blocks would only be a further copy.
    /// </summary>
    private bool KeepsSeveralInFlightLocked(FuseRequest request, uint length) =>
        length >= LargeReadBytes && request.IsDirect && request.IsDataBufferShared && _flight.IsNear
        && _commandsInFlight() - _unawaited >= SeveralInFlight;

    /// <summary>Finds the blocks that have all of a READ, and holds them for it.</summary>
    private QueuedRead? HoldBlocksLocked(FuseRequest request, ulong offset, uint length, long now)
    {
        ulong end = offset + length;
        QueuedRead read = _idleReads ?? new QueuedRead();
        _idleReads = read.Next;
        read.Begin(request, offset, length);
        for (ulong position = offset; position < end;)
        {
            ReadAheadBlock? block = FindLiveLocked(position, now);
            if (block is null || read.Count == QueuedRead.MaximumBlocks)
            {
                LetGoLocked(read);
                return null;
            }

            block.Holders++;
            read.Add(block);
            position = block.End;
        }

        foreach (ReadAheadBlock? block in read.Blocks)
        {
            block!.UsedBytes += Math.Min(end, block.End) - Math.Max(offset, block.Offset);
        }

        return read;
    }

    /// <summary>Lets a READ wait for the first of its blocks that is on its way.</summary>
    /// <returns>False when it can be answered: all have come, or one failed.</returns>
    private bool TryQueueLocked(QueuedRead read)
    {
        if (read.FirstMissing is not ReadAheadBlock block)
        {
            return false;
        }

        _unawaited -= block.Waiting is null ? 1 : 0;
        read.Next = block.Waiting;
        block.Waiting = read;
        return true;
    }

    private void LetGoLocked(QueuedRead read)
    {
        foreach (ReadAheadBlock? block in read.Blocks)
        {
            ReleaseLocked(block!);
        }

        read.Clear();
        read.Next = _idleReads;
        _idleReads = read;
    }
}
