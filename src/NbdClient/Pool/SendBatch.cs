using Linux;
using Nbd.Protocol;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// Commands that are to go out with one sendmsg(2), copied one behind the other. Guarded by the connection's send lock,
/// but for <see cref="IsEmpty"/>.
/// </summary>
internal sealed unsafe class SendBatch : IDisposable
{
    // Larger ones cost less to send alone than to copy. The server has more to do for a READ of so much than we for a
    // sendmsg(2): it gets that at once.
    private const int LargestCommandBytes = 32 << 10;
    private const int MaximumBytes = 128 << 10;

    private readonly NativeBuffer _memory = new(MaximumBytes);
    private int _start;
    private int _end;

    internal bool IsEmpty => Volatile.Read(ref _end) == 0;

    /// <summary>Whether a command is small enough for a batch at all.</summary>
    internal static bool Takes(CommandSlot slot) =>
        slot.Length <= LargestCommandBytes || slot.Type is not (NbdCommandType.Write or NbdCommandType.Read);

    /// <summary>Whether there is room for so many bytes more.</summary>
    internal bool HasRoom(int bytes) => bytes <= MaximumBytes - _end;

    internal void Append(byte* start, int length)
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
        Volatile.Write(ref _end, 0);
    }

    public void Dispose() => _memory.Dispose();
}
