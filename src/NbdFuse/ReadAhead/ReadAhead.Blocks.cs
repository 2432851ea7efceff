using Linux;

namespace NbdFuse;

/// <content>The life of blocks: planned, sent, arrived, dropped, and their memory given back.</content>
internal sealed unsafe partial class ReadAhead
{
    private static readonly TimeSpan s_tick = TimeSpan.FromMilliseconds(500);

    private readonly ITimer _timer;

    // As above: guarded by _gate. Whether a tick is to come, and whether a block was asked for since the last one.
    private bool _isTicking;
    private bool _wasBusy;
    private int _blocksInUse;
    private int _unawaited;

    /// <summary>Commands in flight that no READ waits for.</summary>
    internal int UnawaitedCommands => Volatile.Read(ref _unawaited);

    /// <summary>Asks for what a stream will need next, up to its window.</summary>
    /// <returns>A list of blocks to send.</returns>
    private ReadAheadBlock? PlanLocked(ReadAheadStream stream, long now)
    {
        uint window = Math.Min(stream.Window, WindowLimitLocked());
        uint blockBytes = _limits.BlockBytes(window);
        stream.Ahead = Math.Max(stream.Ahead, stream.Next);
        ulong target = Math.Min(stream.Next + window, _limits.EndBytes);
        ReadAheadBlock? first = null;
        ReadAheadBlock? last = null;
        while (stream.Ahead < target && (target - stream.Ahead >= blockBytes / 2 || target == _limits.EndBytes))
        {
            ulong start = stream.Ahead & ~((ulong)_limits.UnitBytes - 1);
            ulong end = Math.Min(((start / blockBytes) + 1) * blockBytes, _limits.EndBytes);
            if (FindLiveLocked(stream.Ahead, now) is ReadAheadBlock other)
            {
                stream.Ahead = other.End;
                continue;
            }

            int slot = IsChangingLocked(start, end) ? -1 : _memory.TryTake();
            if (slot < 0)
            {
                break;
            }

            ReadAheadBlock block = BeginBlockLocked(start, end, slot, stream, now);
            stream.Ahead = end;
            if (last is null)
            {
                first = block;
            }
            else
            {
                last.Next = block;
            }

            last = block;
        }

        return first;
    }

    private ReadAheadBlock BeginBlockLocked(ulong start, ulong end, int slot, ReadAheadStream stream, long now)
    {
        ReadAheadBlock block = _idleBlocks ?? new ReadAheadBlock(this);
        _idleBlocks = block.Next;
        block.Begin(start, (uint)(end - start), slot, _memory.Start(slot), stream, now);

        // The table of live blocks, and its command.
        block.Holders = 2;
        _live[_liveCount++] = block;
        _unawaited++;
        _blocksInUse++;
        _wasBusy = true;
        return block;
    }

    private void Send(ReadAheadBlock? list)
    {
        while (list is ReadAheadBlock block)
        {
            // Not ours any more once it was sent.
            list = block.Next;
            Errno refused = _readBlock(block.Offset, block.Data, block.Length, block);
            if (refused != Errno.None)
            {
                Arrived(block, refused);
            }
        }
    }

    /// <summary>Takes note of a block's end.</summary>
    /// <returns>The READs that waited for it.</returns>
    private QueuedRead? ArrivedLocked(ReadAheadBlock block, Errno outcome)
    {
        long now = _time.GetTimestamp();
        TimeSpan flight = _time.GetElapsedTime(block.Time, now);
        block.Finish(outcome != Errno.None, now);
        if (outcome != Errno.None)
        {
            if (_live.AsSpan(0, _liveCount).IndexOf(block) is int index and >= 0)
            {
                DropLocked(index);
            }
        }
        else if (_flight.Add(flight, now))
        {
            foreach (ReadAheadStream stream in _streams.Streams)
            {
                stream.Restart();
            }
        }
        else if (_flight.HasLongQueue)
        {
            block.Stream?.ShrinkInTime();
        }

        QueuedRead? waiting = block.Waiting;
        _unawaited -= waiting is null ? 1 : 0;
        block.Waiting = null;
        return waiting;
    }

    /// <summary>Each stream's share of the memory, and no more than the way to the server needs.</summary>
    private uint WindowLimitLocked()
    {
        long share = (long)_memory.Slots * BlockMemory.SlotBytes / Math.Max(_streams.Count, 1);
        return (uint)Math.Min(Math.Min(_limits.LargestWindowBytes, share), _flight.WindowLimit);
    }

    private ReadAheadBlock? FindLiveLocked(ulong offset, long now)
    {
        for (int i = 0; i < _liveCount; i++)
        {
            ReadAheadBlock block = _live[i];
            if (block.Contains(offset))
            {
                if (!IsTooOld(block, now))
                {
                    return block;
                }

                DropLocked(i--);
            }
        }

        return null;
    }

    private bool IsTooOld(ReadAheadBlock block, long now) => block.HasArrived && now - block.Time > _lifetime;

    /// <summary>Drops the blocks that a stream has gone through, or past.</summary>
    private void DropPassedLocked(ReadAheadStream stream)
    {
        for (int i = _liveCount - 1; i >= 0; i--)
        {
            ReadAheadBlock block = _live[i];
            if (block.Stream == stream && block.End <= stream.Next
                && (block.UsedBytes >= block.Length || block.End + stream.Reach <= stream.Next))
            {
                JudgeLocked(block);
                DropLocked(i);
            }
        }
    }

    /// <summary>A block that was hardly used was asked for too early, or in vain.</summary>
    private static void JudgeLocked(ReadAheadBlock block)
    {
        if (block.UsedBytes < block.Length / 4)
        {
            block.Stream?.Shrink();
        }
    }

    private void DropLocked(int index)
    {
        ReadAheadBlock block = _live[index];
        _live[index] = _live[--_liveCount];
        _live[_liveCount] = null!;
        ReleaseLocked(block);
    }

    private void ReleaseLocked(ReadAheadBlock block)
    {
        if (--block.Holders == 0)
        {
            _memory.Return(block.Slot);
            _blocksInUse--;
            block.Stream = null;
            block.Next = _idleBlocks;
            _idleBlocks = block;
        }
    }

    /// <summary>The timer: ends what is too old, and gives the memory back when nothing is read ahead any more.</summary>
    private void Tick()
    {
        bool isOver;
        lock (_gate)
        {
            long now = _time.GetTimestamp();
            for (int i = _liveCount - 1; i >= 0; i--)
            {
                if (IsTooOld(_live[i], now))
                {
                    JudgeLocked(_live[i]);
                    DropLocked(i);
                }
            }

            while (_streams.EndIdle(now) is ReadAheadStream ended)
            {
                foreach (ReadAheadBlock block in _live.AsSpan(0, _liveCount))
                {
                    block.Stream = block.Stream == ended ? null : block.Stream;
                }
            }

            isOver = !_wasBusy && _blocksInUse == 0 && _streams.Count == 0;
            _isTicking = !isOver;
            _wasBusy = false;
        }

        if (isOver)
        {
            _memory.Decommit();
        }
        else
        {
            _ = _timer.Change(s_tick, Timeout.InfiniteTimeSpan);
        }
    }
}
