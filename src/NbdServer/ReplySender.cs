using Tmds.Linux;

namespace Nbd;

/// <summary>
/// Sends the replies of one connection, as many per system call as there are. One thread at a time is the sender:
/// whoever finds replies and no sender. The connection's own thread may wait for the client; any other hands what
/// the socket does not take at once to a thread that is started for that. Thread-safe.
/// </summary>
internal sealed unsafe class ReplySender : IDisposable
{
    /// <summary>Replies of so many bytes are worth a system call of their own.</summary>
    public const int EnoughBytes = 256 * 1024;

    private const int MaximumVectors = 256;

    private readonly ServerTransport _transport;
    private readonly RequestTable _table;
    private readonly AutoResetEvent _handedOver = new(false);

    // Guards _head to _thread.
    private readonly Lock _gate = new();
    private ServerRequest? _head;
    private ServerRequest? _tail;
    private long _queuedBytes;
    private bool _isSending;
    private bool _isEnding;
    private Thread? _thread;

    // The sender's alone.
    private readonly NativeMemory _memory = new(MaximumVectors * sizeof(iovec));
    private ServerRequest? _loaded;
    private ServerRequest? _unloaded;
    private int _vector;
    private int _vectorCount;

    private volatile bool _isBroken;

    public ReplySender(ServerTransport transport, RequestTable table)
    {
        _transport = transport;
        _table = table;
    }

    /// <summary>Whether the client does not take replies any more.</summary>
    public bool IsBroken => _isBroken;

    private iovec* Vectors => (iovec*)_memory.Start;

    /// <summary>Adds a reply, to be sent with the next <see cref="Flush"/>.</summary>
    /// <returns>Whether that is worth to be now.</returns>
    public bool Enqueue(ServerRequest request)
    {
        lock (_gate)
        {
            if (_tail is null)
            {
                _head = request;
            }
            else
            {
                _tail.Next = request;
            }

            _tail = request;
            _queuedBytes += request.ReplyLength;
            return _queuedBytes >= EnoughBytes;
        }
    }

    /// <summary>Sends all that was added, unless another thread does it.</summary>
    /// <param name="mayBlock">Whether the caller can wait for the client.</param>
    public void Flush(bool mayBlock)
    {
        lock (_gate)
        {
            if (_head is null || _isSending)
            {
                return;
            }

            _isSending = true;
        }

        if (mayBlock || _transport.CanSendWithoutBlocking)
        {
            if (Drain(mayBlock))
            {
                return;
            }
        }

        HandOver();
    }

    /// <summary>Frees everything. All requests are back in the table.</summary>
    public void Dispose()
    {
        Thread? thread;
        lock (_gate)
        {
            _isEnding = true;
            thread = _thread;
        }

        _handedOver.Set();
        thread?.Join();
        ((IDisposable)_memory).Dispose();
        _handedOver.Dispose();
    }

    /// <returns>False if it would block: then this thread is still the sender.</returns>
    private bool Drain(bool mayBlock)
    {
        while (true)
        {
            if (_vector == _vectorCount && !Load())
            {
                return true;
            }

            while (_vector < _vectorCount)
            {
                long sent = _isBroken
                    ? -1
                    : _transport.Send(Vectors + _vector, _vectorCount - _vector, mayBlock);
                if (sent == 0)
                {
                    return false;
                }

                if (sent < 0)
                {
                    _isBroken = true;
                    _transport.Abort();
                    _vector = _vectorCount;
                    break;
                }

                Advance(sent);
            }

            ServerRequest done = _loaded!;
            _loaded = null;
            _table.Return(done);
        }
    }

    /// <summary>Fills the vectors with the next replies.</summary>
    /// <returns>False when there are none: then this thread is not the sender any more.</returns>
    private bool Load()
    {
        if (_unloaded is null)
        {
            lock (_gate)
            {
                _unloaded = _head;
                _head = _tail = null;
                _queuedBytes = 0;
                if (_unloaded is null)
                {
                    _isSending = false;
                    return false;
                }
            }
        }

        _vector = 0;
        _vectorCount = 0;
        _loaded = _unloaded;
        ServerRequest last = _unloaded;
        for (ServerRequest? request = _unloaded;
            request is not null && _vectorCount + request.SegmentCount <= MaximumVectors;
            request = request.Next)
        {
            for (int i = 0; i < request.SegmentCount; i++)
            {
                Vectors[_vectorCount++] = request.Segments[i];
            }

            last = request;
        }

        _unloaded = last.Next;
        last.Next = null;
        return true;
    }

    private void Advance(long count)
    {
        ulong sent = (ulong)count;
        while (sent > 0)
        {
            iovec* vector = Vectors + _vector;
            ulong length = vector->iov_len;
            if (sent < length)
            {
                vector->iov_base = (byte*)vector->iov_base + sent;
                vector->iov_len = (int)(length - sent);
                return;
            }

            sent -= length;
            _vector++;
        }
    }

    private void HandOver()
    {
        lock (_gate)
        {
            if (_thread is null)
            {
                _thread = new Thread(Run, 256 * 1024) { Name = "nbd reply", IsBackground = true };
                _thread.Start();
            }
        }

        _handedOver.Set();
    }

    private void Run()
    {
        while (true)
        {
            _handedOver.WaitOne();
            lock (_gate)
            {
                if (_isEnding)
                {
                    return;
                }
            }

            _ = Drain(mayBlock: true);
        }
    }
}
