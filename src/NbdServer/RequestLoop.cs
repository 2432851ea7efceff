using System.Buffers.Binary;
using System.Diagnostics;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// The transmission phase with one client. The connection's thread receives requests and calls the backend; what
/// completes at once is answered together with its neighbours, what does not is answered from wherever it completes.
/// </summary>
internal sealed unsafe partial class RequestLoop : IDisposable
{
    // A reply does not wait longer than this for others to go with it, while the backend works on the next request.
    private static readonly long s_maximumWaitTicks = Stopwatch.Frequency / 10_000;

    // Longer data of a refused WRITE are not worth the wait.
    private const long MaximumDiscardedBytes = 2L * NbdLimits.MaximumPayloadBytes;

    // A payload that starts a WRITE of this size is received straight to where it belongs.
    private const int BigPayloadBytes = 32 * 1024;

    // What a connection gets whatever others hold: one request of this size at a time.
    private const int ReservedBytes = 1024 * 1024;

    private const int MaximumStatusPayloadBytes = 1024;

    private static readonly TimeSpan s_memoryPatience = TimeSpan.FromSeconds(5);

    private readonly InputBuffer _input;
    private readonly NbdServerOptions _options;
    private readonly ServedExport _export;
    private readonly NbdBackend _backend;
    private readonly ReplyWriter _replies;
    private readonly bool _isExtended;
    private readonly bool _hasAllocation;
    private readonly bool _sendsHoles;
    private readonly NbdTransmissionFlags _flags;
    private readonly PayloadPool _pool;
    private readonly ServerLog _log;
    private readonly RequestTable _table;
    private readonly ReplySender _sender;
    private readonly Func<bool> _isStopping;
    private readonly CancellationToken _cancellationToken;
    // When the first reply that is not sent yet was ready; 0 when there is none.
    private long _firstUnsent;

    public RequestLoop(
        InputBuffer input,
        NegotiatedExport negotiated,
        NbdServerOptions options,
        PayloadPool pool,
        ServerLog log,
        Func<bool> isStopping,
        CancellationToken cancellationToken)
    {
        _input = input;
        _options = options;
        _export = negotiated.Export;
        _backend = _export.Backend;
        _replies = new ReplyWriter(negotiated.Style);
        _isExtended = negotiated.Style == ReplyStyle.Extended;
        _hasAllocation = negotiated.HasAllocation;
        _sendsHoles = negotiated.Style != ReplyStyle.Simple && _export.Has(NbdBackendCapabilities.Extents);
        _flags = _export.FlagsFor(negotiated.Style);
        _pool = pool;
        _log = log;
        _isStopping = isStopping;
        _cancellationToken = cancellationToken;
        _table = new RequestTable(options.MaximumRequestsInFlight, pool, OnCompleted);
        _sender = new ReplySender(input.Transport, _table);
    }

    /// <summary>Serves until the client leaves, is lost, or the server stops.</summary>
    /// <returns>Whether it left in order.</returns>
    /// <exception cref="LostClientException">It broke the protocol.</exception>
    public bool Run()
    {
        int headerBytes = _isExtended ? NbdRequest.ExtendedSizeBytes : NbdRequest.SizeBytes;
        while (true)
        {
            if (!TryFill(headerBytes))
            {
                ThrowIfSlow();
                return _isStopping();
            }

            NbdRequestHeader header;
            bool isRight = _isExtended
                ? NbdRequestHeader.TryDecodeExtended(_input.Bytes, out header)
                : NbdRequestHeader.TryDecode(_input.Bytes, out header);
            if (!isRight)
            {
                throw new LostClientException("it sent a request without its magic number");
            }

            _input.Consume(headerBytes);
            if (header.Type == NbdCommandType.Disconnect)
            {
                return true;
            }

            if (!TryServe(header))
            {
                ThrowIfSlow();
                return false;
            }
        }
    }

    /// <summary>Sends what is ready, and waits for what is not.</summary>
    public void Finish()
    {
        Flush();
        _table.WaitUntilInUse(0);
    }

    /// <summary>Frees the memory. <see cref="Finish"/> comes first.</summary>
    public void Dispose()
    {
        _sender.Dispose();
        _table.Dispose();
    }

    /// <returns>False if the client sends no more.</returns>
    private bool TryServe(in NbdRequestHeader header)
    {
        long payloadBytes = PayloadBytes(header);
        long limit = _isExtended ? _options.MaximumPayloadBytes : MaximumDiscardedBytes;
        if (payloadBytes < 0 || payloadBytes > limit)
        {
            throw new LostClientException($"it announced a payload of {(ulong)payloadBytes} bytes");
        }

        ServerRequest request = Rent();
        request.Header = header;
        request.BeginReply();
        Errno error = Check(header, out string text);
        if (error != Errno.None)
        {
            return TryRefuse(request, payloadBytes, error, text);
        }

        if (header.Type is NbdCommandType.Read or NbdCommandType.Write)
        {
            if (!TryProvideMemory(request, (int)header.Length))
            {
                return TryRefuse(request, payloadBytes, Errno.ENOMEM, "the server's memory for requests is used up");
            }
        }
        else
        {
            request.UsePayload(ServerRequest.OwnPayloadBytes);
        }

        if (payloadBytes > 0 && !TryReceivePayload(request, (int)payloadBytes, out error))
        {
            _table.Return(request);
            return false;
        }

        if (error != Errno.None)
        {
            Refuse(request, error, "the payload names meta contexts that were not chosen");
            return true;
        }

        Start(request);
        return true;
    }

    private long PayloadBytes(in NbdRequestHeader header)
    {
        bool follows = _isExtended
            ? (header.Flags & NbdCommandFlags.PayloadLength) != 0
            : header.Type == NbdCommandType.Write;
        return follows ? (long)header.Length : 0;
    }

    // Why no more comes. The request is back in the table by now.
    private void ThrowIfSlow()
    {
        if (_input.Transport.RequestDeadline.HasPassed)
        {
            throw new LostClientException("it took too long to send a request");
        }
    }

    private ServerRequest Rent()
    {
        while (true)
        {
            if (_table.TryRent() is ServerRequest request)
            {
                return request;
            }

            Flush();
            _table.WaitUntilInUse(_options.MaximumRequestsInFlight - 1);
        }
    }

    private bool TryProvideMemory(ServerRequest request, int length)
    {
        if (length > ServerRequest.OwnPayloadBytes)
        {
            request.Rented = _pool.Rent(length, TimeSpan.Zero);
            if (request.Rented is null)
            {
                // Our own replies may hold what is missing.
                Flush();
                bool isReserved = length <= ReservedBytes && _table.RentedBuffers == 0;
                request.Rented = _pool.Rent(length, s_memoryPatience, isReserved);
            }

            if (request.Rented is null)
            {
                return false;
            }

            _table.CountRented();
        }

        request.UsePayload(length);
        return true;
    }

    private bool TryReceivePayload(ServerRequest request, int length, out Errno error)
    {
        error = Errno.None;
        _input.LookAheadBytes = length >= BigPayloadBytes ? NbdRequest.ExtendedSizeBytes : InputBuffer.MaximumBytes;
        if (_input.Available < length)
        {
            Flush();
        }

        if (!_input.TryReceiveInto(request.PayloadStart, length))
        {
            return false;
        }

        if (request.Header.Type == NbdCommandType.BlockStatus)
        {
            error = TakeStatusPayload(request, new ReadOnlySpan<byte>(request.PayloadStart, length));
        }

        return true;
    }

    /// <summary>The payload of BLOCK_STATUS: the length of the range, then ids of meta contexts.</summary>
    private Errno TakeStatusPayload(ServerRequest request, ReadOnlySpan<byte> payload)
    {
        // There is one context: more ids would be unknown ones or duplicates.
        ulong length = BinaryPrimitives.ReadUInt64BigEndian(payload);
        uint id = BinaryPrimitives.ReadUInt32BigEndian(payload[sizeof(ulong)..]);
        if (payload.Length != StatusPayloadBytes || id != ServerHandshake.AllocationContextId)
        {
            return Errno.EINVAL;
        }

        request.Header = request.Header with { Length = length };
        return CheckRange(request.Header, out _);
    }

    private bool TryRefuse(ServerRequest request, long payloadBytes, Errno error, string text)
    {
        if (payloadBytes > _input.Available)
        {
            Flush();
        }

        if (!_input.TryDiscard(payloadBytes))
        {
            _table.Return(request);
            return false;
        }

        Refuse(request, error, text);
        return true;
    }

    private void Refuse(ServerRequest request, Errno error, string text)
    {
        _replies.Fail(request, NbdError.FromErrno(error), text);
        Enqueue(request);
    }

    private bool TryFill(int needed)
    {
        if (_input.Available < needed)
        {
            Flush();
        }

        return _input.TryFill(needed);
    }

    private void Enqueue(ServerRequest request)
    {
        long now = Stopwatch.GetTimestamp();
        _firstUnsent = _firstUnsent == 0 ? now : _firstUnsent;
        if (_sender.Enqueue(request) || now - _firstUnsent > s_maximumWaitTicks)
        {
            Flush();
        }
    }

    private void Flush()
    {
        _firstUnsent = 0;
        _sender.Flush(mayBlock: true);
    }
}
