using System.Numerics;

namespace Nbd;

/// <summary>
/// The memory for big payloads of all connections: buffers of a power of two bytes, so many that they stay within a
/// limit. Thread-safe.
/// </summary>
#pragma warning disable CA1001 // An event whose wait handle nobody asks for owns nothing.
internal sealed class PayloadPool
#pragma warning restore CA1001
{
    private const int MinimumBytes = 32 * 1024;

    // More than this is given back to the system when it is not in use.
    private const long MaximumIdleBytes = 16L * 1024 * 1024;

    private readonly long _maximumBytes;
    private readonly ManualResetEventSlim _returned = new();

    // Guards all below.
    private readonly Lock _gate = new();
    private readonly Stack<NativeMemory>[] _idle = new Stack<NativeMemory>[32];
    private long _idleBytes;
    private long _rentedBytes;
    private bool _isClosed;

    // Not guarded: counted by all connections.
    private long _requestsServed;

    public PayloadPool(long maximumBytes)
    {
        _maximumBytes = maximumBytes;
        for (int i = 0; i < _idle.Length; i++)
        {
            _idle[i] = new();
        }
    }

    /// <summary>Requests that need no payload any more because they were answered.</summary>
    public long RequestsServed => Volatile.Read(ref _requestsServed);

    /// <summary>Bytes in use.</summary>
    public long RentedBytes
    {
        get
        {
            lock (_gate)
            {
                return _rentedBytes;
            }
        }
    }

    /// <summary>Lends a buffer of at least <paramref name="bytes"/>.</summary>
    /// <param name="bytes">How many.</param>
    /// <param name="patience">How long to wait when the limit allows none.</param>
    /// <param name="isReserved">Whether the limit does not count: each connection has a reserve.</param>
    /// <returns>Null if the limit allows none until <paramref name="patience"/> is over.</returns>
    public NativeMemory? Rent(int bytes, TimeSpan patience, bool isReserved = false)
    {
        int size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(bytes, MinimumBytes));
        long end = Environment.TickCount64 + (long)patience.TotalMilliseconds;
        while (true)
        {
            lock (_gate)
            {
                if (isReserved || _rentedBytes + size <= _maximumBytes)
                {
                    _rentedBytes += size;
                    if (_idle[BitOperations.Log2((uint)size)].TryPop(out NativeMemory? memory))
                    {
                        _idleBytes -= size;
                        return memory;
                    }

                    break;
                }

                _returned.Reset();
            }

            int left = (int)(end - Environment.TickCount64);
            if (left <= 0 || !_returned.Wait(left))
            {
                return null;
            }
        }

        try
        {
            return new NativeMemory(size);
        }
        catch (IOException)
        {
            lock (_gate)
            {
                _rentedBytes -= size;
            }

            return null;
        }
    }

    /// <summary>Counts requests that were answered.</summary>
    public void CountServed(int requests) => Interlocked.Add(ref _requestsServed, requests);

    /// <summary>Takes a buffer back.</summary>
    public void Return(NativeMemory memory)
    {
        bool keep;
        lock (_gate)
        {
            _rentedBytes -= memory.Length;
            keep = !_isClosed && _idleBytes + memory.Length <= MaximumIdleBytes;
            if (keep)
            {
                _idleBytes += memory.Length;
                _idle[BitOperations.Log2((uint)memory.Length)].Push(memory);
            }
        }

        if (!_returned.IsSet)
        {
            _returned.Set();
        }

        if (!keep)
        {
            ((IDisposable)memory).Dispose();
        }
    }

    /// <summary>Gives everything back to the system, now or when it is returned.</summary>
    public void Close()
    {
        List<NativeMemory> idle;
        lock (_gate)
        {
            _isClosed = true;
            idle = [.. _idle.SelectMany(stack => stack)];
            Array.ForEach(_idle, stack => stack.Clear());
            _idleBytes = 0;
        }

        idle.ForEach(memory => ((IDisposable)memory).Dispose());
    }
}
