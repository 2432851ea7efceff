using System.Runtime.CompilerServices;
using Linux;

namespace Nbd;

/// <summary>
/// The bytes that a connection received and has not used yet. A reply's header and data always lie one after the
/// other, so that whoever gets the data can put its own header before it. Used by the receive thread alone.
/// </summary>
internal sealed unsafe class ReceiveBuffer : IDisposable
{
    // Small replies: as many as came per recv(2). Missing data of at least this size: exactly that. After a large reply
    // another one is expected: its header alone, so that its data is received where it goes and not copied.
    private const int LookAheadBytes = 64 * 1024;

    private readonly ConnectionTransport _transport;
    private readonly string _peer;
    private readonly int _headerBytes;
    private readonly Action<bool> _beforeReceive;
    private readonly NativeBuffer _memory;
    private bool _expectsLarge;
    private int _start;
    private int _end;

    /// <param name="transport">Where the bytes come from.</param>
    /// <param name="peer">Names the server in messages.</param>
    /// <param name="maximumBytes">The most that is ever asked of <see cref="TryFill"/>.</param>
    /// <param name="headerBytes">What comes before the data of a READ's reply.</param>
    /// <param name="beforeReceive">Called before each call of the transport: with whether that may wait.</param>
    internal ReceiveBuffer(
        ConnectionTransport transport, string peer, int maximumBytes, int headerBytes, Action<bool> beforeReceive)
    {
        _transport = transport;
        _peer = peer;
        _headerBytes = headerBytes;
        _beforeReceive = beforeReceive;
        _memory = new NativeBuffer(maximumBytes + (2 * LookAheadBytes));
    }

    /// <summary>The first byte not used yet. <see cref="TryFill"/> may move it.</summary>
    internal byte* Start => _memory.Start + _start;

    internal int Available => _end - _start;

    /// <summary>Waits until at least <paramref name="needed"/> bytes are there, one after the other.</summary>
    /// <returns>False when the server closed the connection before.</returns>
    /// <exception cref="NbdException">The connection is broken.</exception>
    internal bool TryFill(int needed)
    {
        if (Available >= needed)
        {
            return true;
        }

        if (Available == 0)
        {
            _start = _end = 0;
        }
        else if (_start + needed > _memory.Length)
        {
            Buffer.MemoryCopy(Start, _memory.Start, _memory.Length, Available);
            (_start, _end) = (0, Available);
        }

        while (Available < needed)
        {
            int missing = needed - Available;
            int wanted = Math.Min(
                Math.Max(missing, _expectsLarge ? _headerBytes : LookAheadBytes), _memory.Length - _end);
            int received = Receive(_memory.Start + _end, wanted, all: missing == wanted);
            if (received == 0)
            {
                return false;
            }

            _end += received;
        }

        return true;
    }

    /// <summary>Marks bytes as used. They stay readable until the next <see cref="TryFill"/>.</summary>
    internal void Consume(int count)
    {
        _start += count;
        _expectsLarge = count >= LookAheadBytes;
    }

    /// <summary>
    /// Moves the next <paramref name="count"/> bytes to <paramref name="destination"/>; what did not come yet is
    /// received right there.
    /// </summary>
    /// <returns>False when the server closed the connection before.</returns>
    /// <exception cref="NbdException">The connection is broken.</exception>
    internal bool TryReceiveInto(byte* destination, int count)
    {
        int buffered = Math.Min(count, Available);
        Buffer.MemoryCopy(Start, destination, count, buffered);
        Consume(buffered);
        _expectsLarge = count >= LookAheadBytes;
        while (buffered < count)
        {
            int received = Receive(destination + buffered, count - buffered, all: true);
            if (received == 0)
            {
                return false;
            }

            buffered += received;
        }

        return true;
    }

    public void Dispose() => _memory.Dispose();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Receive(byte* destination, int length, bool all)
    {
        int received = 0;
        Errno errno = Errno.EAGAIN;
        if (_expectsLarge)
        {
            _beforeReceive(false);
            errno = _transport.TryReceive(destination, length, out received);
        }

        if (errno == Errno.EAGAIN)
        {
            _beforeReceive(true);
            errno = _transport.Receive(destination, length, all, out received);
        }

        return errno == Errno.None
            ? received
            : throw new NbdException($"receive from {_peer}: {_transport.Describe(errno)}", Errno.EIO);
    }
}
