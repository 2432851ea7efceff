using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// Commands that are to go out with one sendmsg(2), copied one behind the other. Guarded by the connection's send lock,
/// but for <see cref="IsEmpty"/> and <see cref="Commands"/>.
/// </summary>
internal sealed unsafe class SendBatch : IDisposable
{
    // Data of more costs less to send alone than to copy.
    private const int LargestCommandBytes = 32 << 10;
    private const int MaximumBytes = 128 << 10;

    private readonly NativeBuffer _memory = new(MaximumBytes);
    private int _start;
    private int _end;
    private int _commands;

    /// <summary>How many there are.</summary>
    internal int Commands => Volatile.Read(ref _commands);

    internal bool IsEmpty => Volatile.Read(ref _end) == 0;

    /// <summary>Whether a command is small enough for a batch at all.</summary>
    internal static bool Takes(CommandSlot slot) => slot.PayloadBytes <= LargestCommandBytes;

    /// <summary>Whether there is room for so many bytes more.</summary>
    internal bool HasRoom(int bytes) => bytes <= MaximumBytes - _end;

    /// <summary>Takes a command in: its header, and its data or null.</summary>
    internal void Add(byte* header, int headerBytes, byte* data, int dataBytes)
    {
        Append(header, headerBytes);
        if (data is not null)
        {
            Append(data, dataBytes);
        }

        Volatile.Write(ref _commands, _commands + 1);
    }

    private void Append(byte* start, int length)
    {
        Buffer.MemoryCopy(start, _memory.Start + _end, MaximumBytes - _end, length);
        Volatile.Write(ref _end, _end + length);
    }

    /// <summary>What is to be sent.</summary>
    internal iovec Rest => new() { iov_base = _memory.Start + _start, iov_len = _end - _start };

    /// <summary>Notes that the socket took bytes of <see cref="Rest"/>.</summary>
    internal void Consume(int bytes)
    {
        _start += bytes;
        if (_start == _end)
        {
            Clear();
        }
    }

    internal void Clear()
    {
        _start = 0;
        Volatile.Write(ref _commands, 0);
        Volatile.Write(ref _end, 0);
    }

    public void Dispose() => _memory.Dispose();
}
