namespace NbdFuse;

/// <summary>
/// A reader that goes forward through the file, and how far ahead of it blocks are asked for. Guarded by the lock of
/// its <see cref="ReadAhead"/>.
/// </summary>
internal sealed class ReadAheadStream
{
    private const uint SmallestWindow = ReadAheadLimits.UsualSmallestBlock;
    private const uint FirstWindow = 1 << 20;

    private uint _readBytes;
    private ulong _growsAt;

    /// <summary>Where the next READ should start.</summary>
    internal ulong Next { get; private set; }

    /// <summary>Up to where blocks were asked for.</summary>
    internal ulong Ahead { get; set; }

    /// <summary>How far ahead blocks are wanted, in bytes.</summary>
    internal uint Window { get; private set; }

    /// <summary>When it was read last.</summary>
    internal long LastRead { get; private set; }

    /// <summary>
    /// How far behind <see cref="Next"/> a READ may start: several are in flight at a time, and threads may swap them.
    /// </summary>
    internal ulong Reach => 4 * (ulong)_readBytes;

    internal void Begin(ulong next, uint readBytes, long now)
    {
        (Next, Ahead, _readBytes, LastRead) = (next, next, readBytes, now);
        Window = FirstWindow;
        _growsAt = 0;
    }

    internal bool Matches(ulong offset, uint length)
    {
        // Before it by less, and the less the smaller the READ is: readers skip, but a small one there is by chance.
        ulong behind = Math.Max(Reach, 4 * (ulong)length);
        return offset + behind >= Next && offset <= Next + (4 * (ulong)length);
    }

    internal void Advance(ulong end, uint length, long now)
    {
        Next = Math.Max(Next, end);
        (_readBytes, LastRead) = (Math.Max(length, _readBytes / 2), now);
    }

    /// <summary>The reader had to wait: a larger window, once the effect of the present one was seen.</summary>
    /// <param name="factor">How many times as large.</param>
    /// <param name="limit">No larger than that.</param>
    internal void Grow(uint factor, uint limit)
    {
        if (Next >= _growsAt)
        {
            Window = (uint)Math.Min((ulong)Window * factor, Math.Max(limit, SmallestWindow));
            _growsAt = Ahead;
        }
    }

    /// <summary>More was asked for than is good.</summary>
    internal void Shrink() => Window = Math.Max(Window / 2, SmallestWindow);

    /// <summary>As <see cref="Shrink"/>, but only once the effect of the present window was seen.</summary>
    internal void ShrinkInTime()
    {
        if (Next >= _growsAt)
        {
            Shrink();
            _growsAt = Ahead;
        }
    }

    /// <summary>As at the beginning: how long a block takes without a queue shows only then.</summary>
    internal void Restart() => Window = Math.Min(Window, FirstWindow);
}
