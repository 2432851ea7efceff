using Linux;

namespace Nbd;

/// <summary>What came from the client and was not used yet. Used by the connection's thread alone.</summary>
internal sealed unsafe class InputBuffer : IDisposable
{
    /// <summary>The most that is received ahead, in bytes; also the most that <see cref="TryFill"/> can be asked for.</summary>
    public const int MaximumBytes = 64 * 1024;

    // Less is no connection that anybody works with.
    private const int BytesPerSecond = 64 * 1024;

    private readonly NativeBuffer _memory = new(2 * MaximumBytes);
    private int _start;
    private int _end;

    /// <summary>Where the bytes come from.</summary>
    public required ServerTransport Transport { get; set; }

    /// <summary>Bytes to receive ahead: many small requests come in one call, big payloads do not pass through here.</summary>
    public int LookAheadBytes { get; set; } = MaximumBytes;

    /// <summary>Time for a request once its first byte is there, but for its data; infinite at first.</summary>
    public TimeSpan RequestTimeout { get; set; } = Timeout.InfiniteTimeSpan;

    /// <summary>What is there. Valid until the next call.</summary>
    public ReadOnlySpan<byte> Bytes => new(_memory.Start + _start, Available);

    /// <summary>How many bytes are there.</summary>
    public int Available => _end - _start;

    /// <summary>Waits until <paramref name="needed"/> bytes are there.</summary>
    /// <returns>False when no more come.</returns>
    public bool TryFill(int needed)
    {
        if (Available >= needed)
        {
            return true;
        }

        if (_start + needed > MaximumBytes)
        {
            Buffer.MemoryCopy(_memory.Start + _start, _memory.Start, _memory.Length, Available);
            (_start, _end) = (0, Available);
        }
        else if (Available == 0)
        {
            _start = _end = 0;
        }

        while (Available < needed)
        {
            if (Available > 0 && Transport.RequestDeadline == Deadline.Never)
            {
                Transport.RequestDeadline = DeadlineFor(0);
            }

            int wanted = Math.Max(needed - Available, Math.Min(LookAheadBytes, _memory.Length - _end));
            int received = Transport.Receive(_memory.Start + _end, wanted, all: false);
            if (received == 0)
            {
                return false;
            }

            _end += received;
        }

        Transport.RequestDeadline = Deadline.Never;

        return true;
    }

    /// <summary>Takes bytes off the front.</summary>
    public void Consume(int count) => _start += count;

    /// <summary>Moves bytes to where they belong; what did not come yet is received right there.</summary>
    /// <returns>False when no more come.</returns>
    public bool TryReceiveInto(byte* destination, int count)
    {
        int moved = Math.Min(count, Available);
        Buffer.MemoryCopy(_memory.Start + _start, destination, count, moved);
        Consume(moved);
        if (moved == count)
        {
            return true;
        }

        Transport.RequestDeadline = DeadlineFor(count - moved);
        while (moved < count)
        {
            int received = Transport.Receive(destination + moved, count - moved, all: true);
            if (received == 0)
            {
                return false;
            }

            moved += received;
        }

        Transport.RequestDeadline = Deadline.Never;

        return true;
    }

    /// <summary>Receives bytes and drops them.</summary>
    /// <returns>False when no more come.</returns>
    public bool TryDiscard(long count)
    {
        Deadline deadline = DeadlineFor(count);
        while (count > 0)
        {
            if (Available == 0)
            {
                Transport.RequestDeadline = deadline;
                if (!TryFill(1))
                {
                    return false;
                }
            }

            int part = (int)Math.Min(count, Available);
            Consume(part);
            count -= part;
        }

        return true;
    }

    private Deadline DeadlineFor(long bytes) => RequestTimeout == Timeout.InfiniteTimeSpan
        ? Deadline.Never
        : Deadline.After(RequestTimeout + TimeSpan.FromSeconds((double)bytes / BytesPerSecond));

    public void Dispose() => _memory.Dispose();
}
