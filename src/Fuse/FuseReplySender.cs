using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>Sends replies, and says what went wrong with them. Thread-safe.</summary>
internal sealed unsafe class FuseReplySender
{
    private readonly FuseWarnings _warnings;
    private readonly Action<string>? _trace;

    internal FuseReplySender(FuseWarnings warnings, Action<string>? trace)
    {
        _warnings = warnings;
        _trace = trace;
    }

    internal Errno SendError(FuseChannel channel, ulong unique, Errno error)
    {
        FuseOutHeader header = new() { Length = FuseOutHeader.SizeBytes, Error = -(int)error, Unique = unique };
        return Send(channel, (byte*)&header, FuseOutHeader.SizeBytes, 0);
    }

    /// <summary>Answers a request that the file system is not done with.</summary>
    internal void SendInstead(FuseChannel channel, ulong unique, Errno error)
    {
        FuseOutHeader header = new() { Length = FuseOutHeader.SizeBytes, Error = -(int)error, Unique = unique };
        _trace?.Invoke($"reply {unique}: {error}, before the file system's");
        _ = Check(channel.SendInstead((byte*)&header, FuseOutHeader.SizeBytes), FuseOutHeader.SizeBytes, 0);
    }

    /// <param name="channel">Where the request was read.</param>
    /// <param name="frame">A complete reply.</param>
    /// <param name="length">Its length in bytes.</param>
    /// <param name="opcode">What was asked, for messages.</param>
    internal Errno Send(FuseChannel channel, byte* frame, uint length, FuseOpcode opcode)
    {
        Trace((FuseOutHeader*)frame);
        return Check(channel.Send(frame, length), length, opcode);
    }

    /// <param name="channel">Where the request was read.</param>
    /// <param name="parts">A complete reply; the first part is the out-header.</param>
    /// <param name="count">Number of parts.</param>
    /// <param name="opcode">What was asked, for messages.</param>
    internal Errno Send(FuseChannel channel, iovec* parts, int count, FuseOpcode opcode)
    {
        FuseOutHeader* header = (FuseOutHeader*)parts[0].iov_base;
        Trace(header);
        return Check(channel.Send(parts, count), header->Length, opcode);
    }

    private void Trace(FuseOutHeader* header)
    {
        if (_trace is not null)
        {
            string result = header->Error == 0 ? $"{header->Length} bytes" : ((Errno)(-header->Error)).ToString();
            _trace($"reply {header->Unique}: {result}");
        }
    }

    private Errno Check(Errno error, uint length, FuseOpcode opcode)
    {
        // ENOENT: the requester is gone, or the connection is; both are normal.
        if (error is not (Errno.None or Errno.ENOENT or Errno.ENODEV or Errno.ECONNABORTED))
        {
            _warnings.Report(
                $"reply {error}",
                $"the kernel did not take a reply of {length} bytes to {opcode}: {LinuxException.Describe(error)}");
        }

        return error;
    }
}
