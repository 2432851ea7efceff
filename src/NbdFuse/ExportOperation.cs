using Fuse;
using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// Joins a request of the kernel with the NBD command or commands that serve it: the last hop. It lives
/// as long as its request object and is reused with it.
/// </summary>
internal sealed unsafe class ExportOperation : NbdCompletion
{
    private readonly FuseRequest _request;
    private Kind _kind;
    private uint _length;

    private ExportOperation(FuseRequest request)
    {
        _request = request;
    }

    /// <summary>What a good outcome is answered with.</summary>
    internal enum Kind
    {
        /// <summary>The data.</summary>
        Read,

        /// <summary>The number of bytes.</summary>
        Write,

        /// <summary>Nothing.</summary>
        Empty,
    }

    /// <summary>The operation of a request, ready for its command.</summary>
    internal static ExportOperation For(FuseRequest request, Kind kind, uint length)
    {
        ExportOperation operation = (ExportOperation?)request.Attachment ?? Attach(request);
        operation._kind = kind;
        operation._length = length;
        return operation;
    }

    /// <inheritdoc/>
    protected override void OnCompleted(Errno outcome, byte* data) =>
        Reply(_request, _kind, outcome, data, _length);

    /// <inheritdoc/>
    protected override bool IsAbandoned => !_request.IsPending;

    private static void Reply(FuseRequest request, Kind kind, Errno outcome, byte* data, uint length)
    {
        if (outcome != Errno.None)
        {
            request.ReplyError(FileErrno.From(outcome));
        }
        else if (kind == Kind.Read)
        {
            request.ReplyData(data, length);
        }
        else if (kind == Kind.Write)
        {
            request.ReplyWritten(length);
        }
        else
        {
            request.ReplyEmpty();
        }
    }

    private static ExportOperation Attach(FuseRequest request)
    {
        ExportOperation operation = new(request);
        request.Attachment = operation;
        return operation;
    }
}
