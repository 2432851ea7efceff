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
    private RangeChange? _change;
    private ReadAhead? _changing;
    private ExtentTracker? _extents;
    private ExtentKind _becomes;
    private ulong _changeStart;
    private ulong _changeLength;

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

        /// <summary>ENOSPC: the rest of the data lies past the end.</summary>
        CutWrite,

        /// <summary>The number of bytes that were copied.</summary>
        Copy,

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

    /// <summary>
    /// Notes that the request is going to change a range, until it is answered. Before its first command is sent.
    /// </summary>
    /// <param name="readAhead">Whose blocks of the range are too old then.</param>
    /// <param name="extents">Who has to know what the range has become.</param>
    /// <param name="becomes">That: data, or unknown.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    internal void Changes(ReadAhead? readAhead, ExtentTracker? extents, ExtentKind becomes, ulong offset, ulong length)
    {
        // Left over if the request was given up by an exception before a command was sent.
        EndChange();
        (_extents, _becomes, _changeStart, _changeLength) = (extents, becomes, offset, length);
        if (readAhead is not null)
        {
            _change ??= new RangeChange();
            _changing = readAhead;
            readAhead.BeginChange(_change, offset, length);
        }
    }

    /// <summary>Answers the request with the outcome of its command or commands.</summary>
    /// <param name="outcome">The first error, or none.</param>
    /// <param name="data">What was read, as <see cref="FuseRequest.ReplyData"/> wants it.</param>
    internal void Complete(Errno outcome, byte* data)
    {
        EndChange();
        if (outcome != Errno.None)
        {
            _request.ReplyError(FileErrno.From(outcome));
        }
        else if (_kind == Kind.Read)
        {
            _request.ReplyData(data, _length);
        }
        else if (_kind == Kind.Write)
        {
            _request.ReplyWritten(_length);
        }
        else if (_kind == Kind.Copy)
        {
            _request.ReplyCopied(_length);
        }
        else if (_kind == Kind.CutWrite)
        {
            _request.ReplyError(Errno.ENOSPC);
        }
        else
        {
            _request.ReplyEmpty();
        }
    }

    /// <summary>Answers a COPY_FILE_RANGE.</summary>
    internal void CompleteCopy(Errno outcome, ulong bytes)
    {
        _length = (uint)bytes;
        Complete(outcome, null);
    }

    /// <inheritdoc/>
    protected override void OnCompleted(Errno outcome, byte* data) => Complete(outcome, data);

    /// <inheritdoc/>
    protected override bool IsAbandoned => !_request.IsPending;

    /// <inheritdoc/>
    protected override SharedMemory? MemoryOf(byte* payload, out long offset) => _request.MemoryOf(payload, out offset);

    private void EndChange()
    {
        // Whatever the outcome: a command that failed, or whose connection was lost, may have changed the disk.
        _extents?.Changed(_changeStart, _changeLength, _becomes);
        _extents = null;
        _changing?.EndChange(_change!);
        _changing = null;
    }

    private static ExportOperation Attach(FuseRequest request)
    {
        ExportOperation operation = new(request);
        request.Attachment = operation;
        return operation;
    }
}
