using Linux;

namespace Nbd;

/// <summary>
/// Gathers the chunks of one READ that the server answers in pieces, and knows which bytes came: a gap or an
/// overlap is the server's bug and must not become data (proto.md, "Structured reply types"). Used by the receive
/// thread alone, and reused from READ to READ.
/// </summary>
internal sealed unsafe class ReadAssembly : IDisposable
{
    /// <summary>Room for a caller's header before the data, a page so that the data is aligned.</summary>
    private const int HeaderRoom = 4096;

    private readonly NativeBuffer _buffer;

    // All bytes before this one came. Servers send chunks in ascending order, so this is the common case.
    private uint _prefix;

    // One bit a byte, once a chunk came out of order; valid only if _isSparse.
    private ulong[]? _bytes;
    private bool _isSparse;
    private uint _covered;

    internal ReadAssembly(int maximumLength)
    {
        _buffer = new NativeBuffer(HeaderRoom + maximumLength);
    }

    /// <summary>The data: at the READ's destination, or, if it has none, with room for a header before it.</summary>
    internal byte* Data { get; private set; }

    /// <param name="destination">Where the READ's data goes, or null.</param>
    internal void Begin(byte* destination)
    {
        Data = destination is null ? _buffer.Start + HeaderRoom : destination;
        (_prefix, _covered, _isSparse) = (0, 0, false);
    }

    /// <summary>Whether <paramref name="length"/> bytes from the start are all there.</summary>
    internal bool IsComplete(uint length) => (_isSparse ? _covered : _prefix) == length;

    /// <summary>
    /// Notes that a range inside the READ came. False when a byte of it had come before.
    /// </summary>
    internal bool TryCover(uint start, uint length)
    {
        if (!_isSparse)
        {
            if (start == _prefix)
            {
                _prefix += length;
                return true;
            }

            BecomeSparse();
        }

        return TrySetBits(start, length);
    }

    public void Dispose() => _buffer.Dispose();

    private void BecomeSparse()
    {
        _bytes ??= new ulong[(_buffer.Length - HeaderRoom + 63) / 64];
        Array.Clear(_bytes);
        _isSparse = true;
        _covered = 0;
        _ = TrySetBits(0, _prefix);
    }

    private bool TrySetBits(uint start, uint length)
    {
        uint position = start;
        uint end = start + length;
        while (position < end)
        {
            uint inWord = Math.Min(64 - (position % 64), end - position);
            ulong mask = (inWord == 64 ? ulong.MaxValue : (1UL << (int)inWord) - 1) << (int)(position % 64);
            ref ulong word = ref _bytes![position / 64];
            if ((word & mask) != 0)
            {
                return false;
            }

            word |= mask;
            position += inWord;
        }

        _covered += length;
        return true;
    }
}
