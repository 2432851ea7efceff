using Linux;

namespace Fuse;

/// <summary>
/// Checks a request's lengths and calls the file system's method for it. Thread-safe.
/// </summary>
internal sealed unsafe partial class FuseDispatcher
{
    private const int HeaderBytes = FuseInHeader.SizeBytes;

    private readonly FuseFileSystem _fileSystem;
    private readonly FuseRequestPool _pool;
    private readonly FuseWarnings _warnings;
    private readonly Action<string>? _trace;
    private readonly FuseChannel[] _channels;
    private volatile Errno _refusal;

    /// <param name="fileSystem">What answers.</param>
    /// <param name="pool">Where an INTERRUPT finds its target.</param>
    /// <param name="warnings">Gets what should not happen.</param>
    /// <param name="trace">Gets a line for each request.</param>
    /// <param name="channels">All channels of the session.</param>
    internal FuseDispatcher(
        FuseFileSystem fileSystem,
        FuseRequestPool pool,
        FuseWarnings warnings,
        Action<string>? trace,
        FuseChannel[] channels)
    {
        _fileSystem = fileSystem;
        _pool = pool;
        _warnings = warnings;
        _trace = trace;
        _channels = channels;
    }

    /// <summary>INTERRUPTs that came before their request; null when the kernel repeats them.</summary>
    internal UnmatchedInterrupts? Unmatched { get; init; }

    /// <summary>From now on answers every request with this error; those that the file system has go on.</summary>
    internal void Refuse(Errno error) => _refusal = error;

    /// <summary>Handles the request that was read into <paramref name="request"/>.</summary>
    /// <param name="request">Rented, its buffer filled.</param>
    /// <param name="channel">Where it was read.</param>
    /// <param name="length">Bytes read.</param>
    /// <returns>True when the object belongs to the file system now, or came back to the pool already; false when it
    /// is still the caller's.</returns>
    internal bool Dispatch(FuseRequest request, FuseChannel channel, int length)
    {
        if (length < HeaderBytes)
        {
            _warnings.Report("short", $"the kernel sent a request of {length} bytes, less than a header");
            return false;
        }

        FuseInHeader header = *(FuseInHeader*)request.Frame;
        if (_trace is not null)
        {
            _trace($"request {header.Unique}: {header.Opcode} node {header.NodeId} pid {header.ProcessId}, {length} bytes");
        }

        int bodyLength = length - HeaderBytes - (header.ExtensionLength * 8);
        bool wellFormed = header.Length == length && bodyLength >= FuseBody.MinimumBytes(header.Opcode);
        switch (header.Opcode)
        {
            case FuseOpcode.Forget:
            case FuseOpcode.BatchForget:
                // No reply. Nodes live as long as the mount, so there is nothing to count.
                return false;
            case FuseOpcode.Interrupt:
                if (wellFormed)
                {
                    Interrupt(channel, header.Unique, ((FuseInterruptIn*)(request.Frame + HeaderBytes))->Unique);
                }

                return false;
            case FuseOpcode.NotifyReply:
                // No reply: it is one, to a RETRIEVE that we never send.
                return false;
            default:
                break;
        }

        FuseBody body = new(request.Frame + HeaderBytes, Math.Max(bodyLength, 0));
        request.Begin(channel, header, wellFormed ? body.ExpectedDataBytes(header.Opcode) : 0);
        if (Unmatched is not null && Unmatched.Take(header.Unique) && request.IsRequesterEnding)
        {
            request.ReplyError(Errno.EINTR);
            return true;
        }

        if (_refusal != Errno.None)
        {
            request.ReplyError(_refusal);
            return true;
        }

        try
        {
            if (!wellFormed || !TryCall(request, body))
            {
                _warnings.Report("malformed", $"the kernel sent a malformed {header.Opcode} of {length} bytes");
                request.ReplyError(Errno.EIO);
            }
        }
#pragma warning disable CA1031 // The one place that turns whatever a file system throws into EIO: nothing may end the daemon.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            request.Abandon(header.Unique);
            _warnings.Report(
                $"threw {header.Opcode} {exception.GetType().Name}",
                $"{header.Opcode} failed, answered EIO: {exception}");
        }

        return true;
    }

    /// <summary>
    /// Answers the target with EINTR at once if its caller is to end, who can so be killed whatever it waits for.
    /// </summary>
    private void Interrupt(FuseChannel channel, ulong unique, ulong target)
    {
        if (_pool.TryInterrupt(target))
        {
            return;
        }

        if (Unmatched is not null)
        {
            Unmatched.Add(target);
            if (_pool.TryInterrupt(target))
            {
                return;
            }
        }

        // The target was answered already, and nobody waits for this; or another worker has read but not published
        // it yet, and the kernel shall ask again. With clones only the channel that the target was read from knows it.
        if (_pool.Replies.SendError(channel, unique, Errno.EAGAIN) == Errno.ENOENT)
        {
            foreach (FuseChannel other in _channels)
            {
                if (other != channel && _pool.Replies.SendError(other, unique, Errno.EAGAIN) != Errno.ENOENT)
                {
                    break;
                }
            }
        }
    }
}
