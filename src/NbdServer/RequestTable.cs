namespace Nbd;

/// <summary>
/// The requests of one connection that are not answered yet, and their memory. Thread-safe, but one thread alone
/// rents and waits.
/// </summary>
internal sealed unsafe class RequestTable : IDisposable
{
    private readonly int _maximum;
    private readonly Action<ServerRequest> _completed;
    private readonly PayloadPool _pool;
    // Data first, page by page, then headers. What no request touches takes no memory.
    private readonly NativeMemory _memory;
    private readonly ManualResetEventSlim _freed = new();

    private int _rentedBuffers;

    // Guards all below.
    private readonly Lock _gate = new();
    private ServerRequest? _free;
    private int _created;
    private int _inUse;
    private bool _isWaited;

    public RequestTable(int maximum, PayloadPool pool, Action<ServerRequest> completed)
    {
        _maximum = maximum;
        _pool = pool;
        _completed = completed;
        _memory = new NativeMemory(maximum * (ServerRequest.OwnPayloadBytes + ServerRequest.ReplyBytes));
    }

    /// <summary>Buffers of the pool that requests hold.</summary>
    public int RentedBuffers => Volatile.Read(ref _rentedBuffers);

    /// <summary>Says that a request has got one; <see cref="Return"/> counts back.</summary>
    public void CountRented() => Interlocked.Increment(ref _rentedBuffers);

    /// <summary>A free request, the last one that became free; null if all are in use.</summary>
    public ServerRequest? TryRent()
    {
        lock (_gate)
        {
            if (_free is ServerRequest request)
            {
                _free = request.Next;
                request.Next = null;
                _inUse++;
                return request;
            }

            if (_created == _maximum)
            {
                return null;
            }

            _inUse++;
            return Create(_created++);
        }
    }

    /// <summary>Takes requests back, a list linked by <see cref="ServerRequest.Next"/>, with what they rented.</summary>
    public void Return(ServerRequest first)
    {
        ServerRequest last = first;
        int count = 1;
        for (ServerRequest? request = first; request is not null; request = request.Next)
        {
            if (request.Rented is NativeMemory memory)
            {
                request.Rented = null;
                _pool.Return(memory);
                Interlocked.Decrement(ref _rentedBuffers);
            }

            count += request == last ? 0 : 1;
            last = request;
        }

        _pool.CountServed(count);
        bool wake;
        lock (_gate)
        {
            last.Next = _free;
            _free = first;
            _inUse -= count;
            wake = _isWaited;
        }

        if (wake)
        {
            _freed.Set();
        }
    }

    /// <summary>Waits until at most <paramref name="count"/> requests are in use.</summary>
    public void WaitUntilInUse(int count)
    {
        while (true)
        {
            lock (_gate)
            {
                _isWaited = _inUse > count;
                if (!_isWaited)
                {
                    return;
                }

                _freed.Reset();
            }

            _freed.Wait();
        }
    }

    /// <summary>Frees the memory. No request may be in use.</summary>
    public void Dispose()
    {
        ((IDisposable)_memory).Dispose();
        _freed.Dispose();
    }

    private ServerRequest Create(int index)
    {
        int payload = index * ServerRequest.OwnPayloadBytes;
        int reply = (_maximum * ServerRequest.OwnPayloadBytes) + (index * ServerRequest.ReplyBytes);
        return new ServerRequest(
            _memory.Whole.Slice(payload, ServerRequest.OwnPayloadBytes),
            _memory.Start + payload,
            _memory.Start + reply,
            _completed);
    }
}
