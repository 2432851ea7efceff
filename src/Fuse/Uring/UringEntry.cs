using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>
/// A place for one request at a time, shared with the kernel: a header, and a payload that is the data of the request
/// object. It is the channel of the requests that arrive in it.
/// </summary>
/// <remarks>
/// The kernel takes a reply only together with the entry, which it then fills with the next request. So when a request
/// is answered before the file system is done with it, the file system keeps the object and its memory, and the entry
/// gets another object: the address that the kernel knows then shows the memory of that one.
/// Whoever answers a request owns the entry from then on until it is committed; only the ring's thread commits.
/// </remarks>
internal sealed unsafe class UringEntry : FuseChannel, IRingWork
{
    private readonly UringQueues _queues;
    private readonly UringEntryHeader* _header;
    private readonly byte* _payload;
    private FuseRequest _request;
    private bool _needsAnotherRequest;
    private bool _isLarge;

    // How much data came with the request.
    private int _requestBytes;

    /// <param name="queues">Where it belongs.</param>
    /// <param name="index">Its number there.</param>
    /// <param name="queueId">The kernel's queue that it serves.</param>
    /// <param name="header">Stays until the kernel has let go of the entry.</param>
    /// <param name="payload">Address space for the data of a request, likewise.</param>
    /// <param name="request">Its first object.</param>
    internal UringEntry(
        UringQueues queues, uint index, ushort queueId, UringEntryHeader* header, byte* payload, FuseRequest request)
    {
        (_queues, Index, QueueId, _request) = (queues, index, queueId, request);
        _header = header;
        _payload = payload;
    }

    /// <summary>Its number on its ring.</summary>
    internal uint Index { get; }

    /// <summary>The kernel's queue that it serves.</summary>
    internal ushort QueueId { get; }

    /// <summary>Whether the kernel has taken it.</summary>
    internal bool IsRegistered { get; set; }

    internal override bool KeepsRequests => true;

    IRingWork? IRingWork.NextPosted { get; set; }

    /// <summary>Asks the kernel to take the entry.</summary>
    internal void Register(IoUringSubmission* submission, int device, int payloadBytes)
    {
        _header->Header.iov_base = _header;
        _header->Header.iov_len = UringEntryHeader.KernelBytes;
        _header->Payload.iov_base = _payload;
        _header->Payload.iov_len = payloadBytes;
        submission->Operation = IoUringOperation.Command;
        submission->Fd = device;
        submission->CommandCode = (uint)UringCommand.Register;
        submission->Address = (ulong)&_header->Header;
        submission->Length = 2;
        ((UringCommandArguments*)submission->Command)->QueueId = QueueId;
    }

    /// <summary>A request has arrived: puts it together and has it handled.</summary>
    internal void Dispatch(FuseDispatcher dispatcher)
    {
        FuseRequest request = _request;
        FuseInHeader header = _header->In;
        long operationBytes = (long)header.Length - FuseInHeader.SizeBytes - _header->PayloadBytes;
        if (operationBytes is < 0 or > UringEntryHeader.OperationBytes || _header->PayloadBytes > request.DataCapacity)
        {
            _queues.Malformed(header);
            SendError(header.Unique);
            return;
        }

        _requestBytes = (int)_header->PayloadBytes;
        request.TouchData(_requestBytes);

        // The parts lie one after the other, as if they had been read from the device.
        byte* operation = request.Data - operationBytes;
        Buffer.MemoryCopy(_header->Operation, operation, operationBytes, operationBytes);
        request.Frame = operation - FuseInHeader.SizeBytes;
        *(FuseInHeader*)request.Frame = header;
        if (!dispatcher.Dispatch(request, this, (int)header.Length))
        {
            SendError(header.Unique);
        }
    }

    internal override Errno Send(byte* frame, uint length)
    {
        uint payload = length - FuseOutHeader.SizeBytes;
        _header->Out = *(FuseOutHeader*)frame;
        _header->PayloadBytes = payload;
        byte* data = frame + FuseOutHeader.SizeBytes;
        if (payload > 0)
        {
            if (data != _request.Data)
            {
                Buffer.MemoryCopy(data, _request.Data, _request.DataCapacity, payload);
            }
        }

        CommitSoon();
        return Errno.None;
    }

    internal override Errno Send(iovec* parts, int count)
    {
        byte* end = _request.Data;
        for (int i = 1; i < count; i++)
        {
            long length = (long)(ulong)parts[i].iov_len;
            Buffer.MemoryCopy(parts[i].iov_base, end, _request.DataCapacity - (end - _request.Data), length);
            end += length;
        }

        _header->Out = *(FuseOutHeader*)parts[0].iov_base;
        _header->PayloadBytes = (uint)(end - _request.Data);
        CommitSoon();
        return Errno.None;
    }

    internal override Errno SendInstead(byte* frame, uint length)
    {
        _needsAnotherRequest = true;
        return Send(frame, length);
    }

    /// <summary>Prepares the commit; on the ring's thread.</summary>
    public void Run()
    {
        if (_needsAnotherRequest)
        {
            FuseRequest? another = _queues.TryTakeRequest(_payload);
            if (another is null)
            {
                _queues.CommitLater(this);
                return;
            }

            _request = another;
            _requestBytes = 0;
            _needsAnotherRequest = false;
        }

        CountMemory(Math.Max(_requestBytes, (int)_header->PayloadBytes));
        _queues.Commit(this, _header->CommitId);
    }

    /// <summary>
    /// Counts the entries whose data takes much memory. When they are too many, one that was needed for something small
    /// gives back the rest; one that is large all the time does not, since a page costs more to get than to fill.
    /// Only while the entry is ours: not even the reply's data may be dropped before the kernel has it.
    /// </summary>
    private void CountMemory(int usedBytes)
    {
        _request.TouchData(usedBytes);
        bool isLarge = _request.TouchedBytes > FuseRequestPool.LargeBytes;
        if (isLarge && usedBytes <= FuseRequestPool.LargeBytes && _queues.LargeEntries > _queues.LargeEntriesKept)
        {
            _request.Decommit(usedBytes);
            isLarge = false;
        }

        if (isLarge != _isLarge)
        {
            _queues.LargeEntries += isLarge ? 1 : -1;
            _isLarge = isLarge;
        }
    }

    private void CommitSoon()
    {
        if (_queues.Loop.IsCurrent)
        {
            Run();
        }
        else
        {
            _queues.Loop.Post(this);
        }
    }

    private void SendError(ulong unique)
    {
        FuseOutHeader header = new() { Length = FuseOutHeader.SizeBytes, Error = -(int)Errno.EIO, Unique = unique };
        _ = Send((byte*)&header, FuseOutHeader.SizeBytes);
    }
}
