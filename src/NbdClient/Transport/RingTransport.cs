using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// A socket that is driven by the thread of a <see cref="RingLoop"/>, which is the connection's receive thread. While
/// it waits for bytes it serves the loop's other clients. What their calls send is gathered and goes out in one piece
/// before the thread waits. No send ever waits.
/// </summary>
internal sealed unsafe class RingTransport : SocketTransport, IRingClient
{
    private const uint ReceiveTag = 0;
    private const uint RoomTag = 1;

    // Payloads up to this size are copied into the batch; larger ones are sent from where they are.
    private const int LargestCopyBytes = 32 << 10;
    private const int BatchBytes = 256 << 10;

    private const int SIOCOUTQ = 0x5411;

    private readonly RingLoop _loop;

    // Of a Unix socket; 0 of others, which have no such simple rule for when a send waits.
    private readonly int _sendBufferBytes;
    private readonly TaskCompletionSource _returned = new();

    // Guards the batch, and so the order of bytes on the socket, between the loop's thread and whoever else sends.
    // Nothing blocks under it.
    private readonly Lock _gate = new();
    private readonly NativeBuffer _batch = new(BatchBytes);
    private int _batchStart;
    private int _batchEnd;
    private bool _endsAfterBatch;
    private Errno _broken;

    // For the loop's thread alone.
    private int _client = -1;
    private bool _receives;
    private int _received;
    private bool _waitsForRoom;

    /// <param name="socket">A connected blocking socket. Taken over.</param>
    /// <param name="loop">Whose thread it is to be driven by; outlives this object.</param>
    /// <exception cref="LinuxException">The socket does not take its options.</exception>
    internal RingTransport(SafeFd socket, RingLoop loop)
        : base(socket)
    {
        _loop = loop;
        _sendBufferBytes = UnixSendBufferBytes();
    }

    internal override bool GathersSends => true;

    internal override void Start(Action receive) => _loop.Keep(() =>
    {
        _client = _loop.Add(this);
        try
        {
            receive();

            // The socket was shut down: this ends at once.
            while (_waitsForRoom)
            {
                _loop.Turn();
            }
        }
        finally
        {
            _loop.Remove(_client);
            _returned.SetResult();
        }
    });

    internal override void Join() => _returned.Task.Wait();

    internal override Errno Send(iovec* parts, int count, bool mayWait, out int sent)
    {
        sent = 0;
        lock (_gate)
        {
            bool isGathered = _loop.IsCurrent && Gathers(parts, count);
            if (isGathered)
            {
                for (int i = 0; i < count; i++)
                {
                    sent += Append((byte*)parts[i].iov_base, (int)(ulong)parts[i].iov_len);
                }

                return _broken;
            }

            FlushLocked();
            return _batchStart < _batchEnd ? _broken
                : _broken != Errno.None ? _broken
                : base.Send(parts, count, mayWait: false, out sent);
        }
    }

    internal override bool SendsShared => _sendBufferBytes > 0;

    internal override Errno SendShared(iovec* parts, SharedMemory memory, long offset, out int sent)
    {
        sent = 0;
        lock (_gate)
        {
            FlushLocked();
            if (_batchStart < _batchEnd || _broken != Errno.None)
            {
                return _broken;
            }

            // sendfile(2) waits unless the socket is non-blocking, for receiving too: so it gets no more than fits.
            int headerBytes = (int)(ulong)parts[0].iov_len;
            int fitting = Math.Min((int)(ulong)parts[1].iov_len, RoomBytes());
            if (headerBytes > 0 && fitting > 0)
            {
                Errno errno = base.Send(parts, 1, mayWait: false, out sent);
                if (errno != Errno.None || sent < headerBytes)
                {
                    return errno;
                }
            }

            nint taken = fitting > 0 ? memory.SendTo(Fd, offset, fitting) : 0;
            if (taken >= 0)
            {
                sent += (int)taken;
                return Errno.None;
            }

            // Whatever it was, sendmsg(2) either works or says what is wrong with the connection.
            Errno copied = base.Send(parts + 1, 1, mayWait: false, out int payloadBytes);
            sent += payloadBytes;
            return copied;
        }
    }

    internal override Errno Receive(byte* destination, int length, bool all, out int received)
    {
        while (true)
        {
            IoUringSubmission* submission = _loop.Prepare(_client, ReceiveTag);
            submission->Operation = IoUringOperation.Receive;
            submission->Fd = Fd;
            submission->Address = (ulong)destination;
            submission->Length = (uint)length;
            submission->Flags = all ? (uint)LibC.MSG_WAITALL : 0;
            _receives = true;
            while (_receives)
            {
                _loop.Turn();
            }

            received = Math.Max(_received, 0);
            Errno errno = (Errno)(received - _received);
            if (errno is not (Errno.EINTR or Errno.EAGAIN))
            {
                return errno;
            }
        }
    }

    /// <inheritdoc/>
    internal override Errno TryReceive(byte* destination, int length, out int received)
    {
        // The other clients of the loop have their turn while this one waits.
        received = 0;
        return Errno.EAGAIN;
    }

    internal override void EndSending()
    {
        lock (_gate)
        {
            _endsAfterBatch = true;
            FlushLocked();
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (_gate)
        {
            _batchStart = _batchEnd = 0;
            _batch.Dispose();
        }

        base.Dispose();
    }

    /// <inheritdoc/>
    public void Completed(uint tag, int result)
    {
        if (tag == ReceiveTag)
        {
            (_receives, _received) = (false, result);
        }
        else
        {
            _waitsForRoom = false;
        }
    }

    /// <inheritdoc/>
    public void BeforeWait()
    {
        lock (_gate)
        {
            FlushLocked();
            if (_batchStart == _batchEnd || _waitsForRoom || _broken != Errno.None)
            {
                return;
            }
        }

        _waitsForRoom = true;
        IoUringSubmission* submission = _loop.Prepare(_client, RoomTag);
        submission->Operation = IoUringOperation.PollAdd;
        submission->Fd = Fd;
        submission->Flags = (uint)LibC.POLLOUT;
    }

    /// <inheritdoc/>
    public void LoopFailed(Exception reason)
    {
        // The connection has ended already: its own wait failed first.
    }

    /// <summary>
    /// Bytes of shared memory that the socket takes without waiting. It counts what the server has not read, and about 1 KiB
    /// for itself for each 64 KiB; it waits when that reaches the size of its buffer.
    /// </summary>
    private int RoomBytes()
    {
        int unread;
        if (LibC.ioctl(Fd, SIOCOUTQ, &unread) < 0)
        {
            return 0;
        }

        int room = _sendBufferBytes - unread;
        return room - (room / 32);
    }

    /// <summary>Whether the parts go into the batch. Not while it holds what the socket did not take.</summary>
    private bool Gathers(iovec* parts, int count)
    {
        long total = 0;
        for (int i = 0; i < count; i++)
        {
            total += (long)(ulong)parts[i].iov_len;
        }

        return !_waitsForRoom && total <= LargestCopyBytes && total <= BatchBytes - _batchEnd;
    }

    private int UnixSendBufferBytes()
    {
        int family;
        int bytes;
        socklen_t size = sizeof(int);
        return LibC.getsockopt(Fd, LibC.SOL_SOCKET, LibC.SO_DOMAIN, &family, &size) == 0 && family == LibC.AF_UNIX
            && LibC.getsockopt(Fd, LibC.SOL_SOCKET, LibC.SO_SNDBUF, &bytes, &size) == 0
            ? bytes
            : 0;
    }

    private int Append(byte* start, int length)
    {
        Buffer.MemoryCopy(start, _batch.Start + _batchEnd, BatchBytes - _batchEnd, length);
        _batchEnd += length;
        return length;
    }

    private void FlushLocked()
    {
        if (_batchStart < _batchEnd && _broken == Errno.None)
        {
            iovec rest = new()
            {
                iov_base = _batch.Start + _batchStart,
                iov_len = (size_t)(ulong)(_batchEnd - _batchStart),
            };
            _broken = base.Send(&rest, 1, mayWait: false, out int sent);
            _batchStart += sent;
            if (_batchStart == _batchEnd)
            {
                _batchStart = _batchEnd = 0;
            }
        }

        if (_endsAfterBatch && _batchStart == _batchEnd)
        {
            _endsAfterBatch = false;
            base.EndSending();
        }
    }
}
