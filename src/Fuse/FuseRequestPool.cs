using Linux;

namespace Fuse;

/// <summary>
/// All request objects of a session. Thread-safe: workers rent, any thread returns. Idle objects form a stack, so
/// that the one used last, whose memory is warm, is used next.
/// </summary>
internal sealed class FuseRequestPool : IDisposable
{
    /// <summary>
    /// Most unanswered requests at a time. The kernel bounds background requests itself, so it takes this many blocked
    /// threads of programs to get here; the worker then waits until a request comes back, or is answered because its
    /// program was killed. That one's object stays with the file system and counts no more: the FLUSH of the program's last
    /// close(2) has to be read, which the kernel lets nobody kill.
    /// </summary>
    internal const int DefaultBound = 4096;

    // Most objects, as a multiple of the bound.
    private const int ObjectsToBound = 4;

    /// <summary>A request that touched more than this is large.</summary>
    internal const int LargeBytes = 64 << 10;

    /// <summary>So many large requests may keep their memory while idle.</summary>
    internal const int MaxLargeIdle = 64;

    // Guards _count and the creation of requests.
    private readonly Lock _gate = new();
    private readonly FuseRequest?[] _requests;
    private readonly SemaphoreSlim _returned = new(0);
    private readonly int _bound;
    private readonly int _bufferBytes;
    private volatile int _count;
    private volatile int _waiters;
    private volatile bool _closed;
    private int _largeIdle;

    // The top of the stack: index + 1 of a request in the low half, 0 for none; in the high half a count of changes,
    // so that a top that went and came back is not mistaken for one that stayed.
    private ulong _top;

    /// <param name="dataBytes">Most data of a request or reply.</param>
    /// <param name="replies">Where replies go.</param>
    /// <param name="bound">Most unanswered requests at a time.</param>
    /// <param name="isShared">The data of requests can be shown at a second address (<see cref="Show"/>).</param>
    /// <exception cref="LinuxException">There is no shared memory.</exception>
    internal FuseRequestPool(
        int dataBytes, FuseReplySender replies, int bound = DefaultBound, bool isShared = false)
    {
        // The first page holds the header and, before the second, the out-header of a reply; a WRITE has its data
        // after 80 bytes, so it needs a little more than its data.
        DataOffset = Environment.SystemPageSize;
        ReadBytes = Math.Max(dataBytes + DataOffset, FuseAbi.MinimumReadBytes);
        _bufferBytes = Math.Max(dataBytes + (2 * DataOffset), ReadBytes);
        int pageMask = DataOffset - 1;
        _bufferBytes = (_bufferBytes + pageMask) & ~pageMask;
        Memory = isShared ? new SharedMemory("fuse-requests", (long)bound * ObjectsToBound * _bufferBytes) : null;
        Replies = replies;
        _bound = bound;
        _requests = new FuseRequest?[bound * ObjectsToBound];
    }

    /// <summary>Where <see cref="FuseRequest.DataBuffer"/> starts in the buffer.</summary>
    internal int DataOffset { get; }

    /// <summary>Most bytes to read from the device into a request.</summary>
    internal int ReadBytes { get; }

    internal FuseReplySender Replies { get; }

    /// <summary>Where the buffers of all requests lie, if they can be shown at a second address.</summary>
    internal SharedMemory? Memory { get; }

    /// <summary>Bytes that <see cref="Show"/> shows, a multiple of the page size.</summary>
    internal int ShownBytes => _bufferBytes - DataOffset;

    /// <summary>Objects made so far.</summary>
    internal int Allocated => _count;

    /// <summary>All objects made so far, idle ones too.</summary>
    internal ReadOnlySpan<FuseRequest?> Made => _requests.AsSpan(0, _count);

    /// <summary>Requests that the file system is not done with.</summary>
    internal int Taken
    {
        get
        {
            int taken = 0;
            for (int i = 0; i < _count; i++)
            {
                taken += _requests[i]!.IsTaken ? 1 : 0;
            }

            return taken;
        }
    }

    /// <summary>Takes an idle request; waits for one when the bound is reached.</summary>
    /// <returns>Null once the pool is closed.</returns>
    internal FuseRequest? Rent()
    {
        FuseRequest? request = TryRent();
        if (request is null)
        {
            _ = Interlocked.Increment(ref _waiters);
            while (!_closed && (request = TryPop() ?? TryCreate()) is null)
            {
                _returned.Wait();
            }

            _ = Interlocked.Decrement(ref _waiters);
            CountRented(request);
        }

        return request;
    }

    /// <summary>Takes an idle request. Null when the bound is reached.</summary>
    internal FuseRequest? TryRent()
    {
        FuseRequest? request = TryPop() ?? TryCreate();
        CountRented(request);
        return request;
    }

    /// <summary>Where the buffer of a request starts in <see cref="Memory"/>.</summary>
    internal long OffsetOf(FuseRequest request) => (long)request.Index * _bufferBytes;

    /// <summary>Shows the data of a request at a second address too, in the place of what is there.</summary>
    /// <exception cref="LinuxException">mmap(2) failed.</exception>
    internal unsafe void Show(FuseRequest request, byte* address) =>
        Memory!.Map(OffsetOf(request) + DataOffset, ShownBytes, address);

    /// <summary>Gives a request back. Few big buffers stay in memory while idle.</summary>
    internal void Return(FuseRequest request)
    {
        if (request.TouchedBytes > LargeBytes && Interlocked.Increment(ref _largeIdle) > MaxLargeIdle)
        {
            _ = Interlocked.Decrement(ref _largeIdle);
            request.Decommit();
        }

        ulong top = Volatile.Read(ref _top);
        while (true)
        {
            request.NextIdle = (int)(uint)top;
            ulong next = Tag(top) | (uint)(request.Index + 1);
            ulong seen = Interlocked.CompareExchange(ref _top, next, top);
            if (seen == top)
            {
                break;
            }

            top = seen;
        }

        // The exchange above is a full fence: a waiter that is not seen here sees the request.
        if (_waiters > 0)
        {
            _ = _returned.Release();
        }
    }

    /// <summary>
    /// An INTERRUPT of the request named <paramref name="unique"/>: answers EINTR if its requester is to end. A signal
    /// that does not ask for that (a timer, a runtime's own) interrupts no call on a local file, and none here; if
    /// another follows, <see cref="FuseRequesterWatch"/> sees it.
    /// </summary>
    /// <returns>False when there is no such request, or it is answered.</returns>
    internal bool TryInterrupt(ulong unique)
    {
        for (int i = 0; i < _count; i++)
        {
            FuseRequest request = _requests[i]!;
            if (request.Pending == unique)
            {
                return !request.IsRequesterEnding || request.TryAnswerInstead(unique, Errno.EINTR);
            }
        }

        return false;
    }

    /// <summary>Answers all unanswered requests.</summary>
    /// <returns>How many there were.</returns>
    internal int AnswerAll(Errno error)
    {
        int answered = 0;
        for (int i = 0; i < _count; i++)
        {
            answered += _requests[i]!.TryAnswerInstead(error) ? 1 : 0;
        }

        return answered;
    }

    /// <summary>Requests were answered that the file system is not done with: whoever waits for an object may make one.</summary>
    internal void NoteAnswered()
    {
        if (_waiters > 0)
        {
            _ = _returned.Release();
        }
    }

    /// <summary>Wakes everyone who waits for a request.</summary>
    internal void Close()
    {
        _closed = true;
        _ = _returned.Release(FuseSession.MaxWorkers);
    }

    /// <summary>Frees all buffers. Only when nobody has a request any more.</summary>
    public void Dispose()
    {
        _returned.Dispose();
        Memory?.Dispose();
        for (int i = 0; i < _count; i++)
        {
            _requests[i]!.FreeBuffer();
        }
    }

    private void CountRented(FuseRequest? request)
    {
        if (request is not null && request.TouchedBytes > LargeBytes)
        {
            _ = Interlocked.Decrement(ref _largeIdle);
        }
    }

    private static ulong Tag(ulong top) => ((top >> 32) + 1) << 32;

    private FuseRequest? TryPop()
    {
        ulong top = Volatile.Read(ref _top);
        while ((uint)top != 0)
        {
            FuseRequest request = _requests[(uint)top - 1]!;
            ulong next = Tag(top) | (uint)Volatile.Read(ref request.NextIdle);
            ulong seen = Interlocked.CompareExchange(ref _top, next, top);
            if (seen == top)
            {
                return request;
            }

            top = seen;
        }

        return null;
    }

    private int CountAnswered()
    {
        int answered = 0;
        for (int i = 0; i < _count; i++)
        {
            answered += _requests[i]! is { IsTaken: true, IsPending: false } ? 1 : 0;
        }

        return answered;
    }

    private FuseRequest? TryCreate()
    {
        lock (_gate)
        {
            if (_count == _requests.Length || (_count >= _bound && _count >= _bound + CountAnswered()))
            {
                return null;
            }

            NativeBuffer buffer = Memory is null
                ? new NativeBuffer(_bufferBytes)
                : new NativeBuffer(Memory, (long)_count * _bufferBytes, _bufferBytes);
            FuseRequest request = new(this, _count, buffer);
            _requests[_count] = request;

            // Volatile, after the element: whoever sees the count sees the request.
            _count++;
            return request;
        }
    }
}
