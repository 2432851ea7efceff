using System.Diagnostics;
using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>TLS over a blocking stream socket.</summary>
internal sealed unsafe class TlsTransport : ConnectionTransport
{
    private readonly SocketTransport _socket;
    private readonly TlsSession _session;
    private readonly int _fd;

    // A record is put together from its parts here: one for a command's header alone would cost as much as a full
    // one. The sending thread's.
    private readonly NativeBuffer _record = new(TlsSession.RecordBytes);

    private volatile bool _hasEndedSending;
    private string? _failure;

    /// <param name="socket">The socket that <paramref name="session"/> uses. Taken over.</param>
    /// <param name="session">After its handshake. Taken over.</param>
    /// <exception cref="LinuxException">The socket could not be prepared.</exception>
    internal TlsTransport(SafeFd socket, TlsSession session)
    {
        _socket = new SocketTransport(socket);
        _session = session;
        _fd = socket.Fd;
    }

    internal override Errno Send(iovec* parts, int count, bool mayWait, out int sent)
    {
        int total = 0;
        for (int i = 0; i < count; i++)
        {
            total += (int)parts[i].iov_len;
        }

        sent = 0;
        long start = 0;
        while (sent < total)
        {
            // The same bytes again after NeedsRoom, as the session wants it: records start where they would have
            // started at the first try.
            int length = Math.Min(total - sent, TlsSession.RecordBytes);
            switch (_session.Write(Gather(parts, sent, length), length, out int written))
            {
                case TlsOutcome.Done:
                    sent += written;
                    break;
                case TlsOutcome.NeedsRoom:
                    start = start == 0 ? Stopwatch.GetTimestamp() : start;
                    if (!mayWait || !HasRoomBefore(start))
                    {
                        return Errno.None;
                    }

                    break;
                default:
                    _failure ??= _session.Failure;
                    return _session.SocketError == Errno.None ? Errno.EPROTO : _session.SocketError;
            }
        }

        return Errno.None;
    }

    internal override void WaitForRoom() => _socket.WaitForRoom();

    internal override Errno Receive(byte* destination, int length, bool all, out int received)
    {
        received = 0;
        while (received < length)
        {
            switch (_session.Read(destination + received, length - received, out int count))
            {
                case TlsOutcome.Done:
                    received += count;
                    break;
                case TlsOutcome.NeedsInput when received > 0 && !all:
                case TlsOutcome.Ended:
                    return Errno.None;
                case TlsOutcome.NeedsInput:
                    Errno errno = _session.Feed(mayWait: true, out int fed);
                    if (errno != Errno.None)
                    {
                        return errno;
                    }

                    if (fed == 0)
                    {
                        return EndWithoutNotice();
                    }

                    break;
                default:
                    _failure ??= _session.Failure;
                    return Errno.EPROTO;
            }
        }

        return Errno.None;
    }

    internal override string Describe(Errno errno) =>
        errno == Errno.EPROTO && _failure is not null ? $"TLS: {_failure}" : base.Describe(errno);

    internal override void EndSending()
    {
        _hasEndedSending = true;
        _session.SendEnd();
        _socket.EndSending();
    }

    internal override void Shutdown() => _socket.Shutdown();

    public override void Dispose()
    {
        _session.Dispose();
        _record.Dispose();
        _socket.Dispose();
    }

    /// <summary>
    /// RFC 8446, section 6.1: an end without close_notify may be an attacker's. Once we said that we leave it does no
    /// harm, and some servers never send one.
    /// </summary>
    private Errno EndWithoutNotice()
    {
        if (_hasEndedSending)
        {
            return Errno.None;
        }

        _failure ??= "the stream was cut off (no close_notify): the server died, or someone between ended it";
        return Errno.EPROTO;
    }

    /// <returns>Where the bytes lie, one after the other.</returns>
    private byte* Gather(iovec* parts, int offset, int length)
    {
        int i = 0;
        while (offset >= (int)parts[i].iov_len)
        {
            offset -= (int)parts[i++].iov_len;
        }

        byte* start = (byte*)parts[i].iov_base + offset;
        int available = (int)parts[i].iov_len - offset;
        if (available >= length)
        {
            return start;
        }

        for (int gathered = 0; gathered < length;)
        {
            int count = Math.Min(available, length - gathered);
            Buffer.MemoryCopy(start, _record.Start + gathered, length - gathered, count);
            gathered += count;
            if (gathered < length)
            {
                i++;
                start = (byte*)parts[i].iov_base;
                available = (int)parts[i].iov_len;
            }
        }

        return _record.Start;
    }

    private bool HasRoomBefore(long start)
    {
        int remaining = SendPatienceMilliseconds - (int)Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        pollfd room = new() { fd = _fd, events = LibC.POLLOUT };
        return remaining > 0 && LibC.poll(&room, 1, remaining) != 0;
    }
}
