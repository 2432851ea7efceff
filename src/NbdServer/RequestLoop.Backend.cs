using System.Runtime.CompilerServices;
using Nbd.Protocol;

namespace Nbd;

// From a request to the backend's method, and back.
internal sealed partial class RequestLoop
{
    // A READ in more pieces costs more than the zeroes that it saves.
    private const int MaximumReadExtents = 30;

    private const int MaximumStatusExtents = ServerRequest.OwnPayloadBytes / 16;

    private void Start(ServerRequest request)
    {
        try
        {
            ValueTask task = Invoke(request);
            if (!task.IsCompleted)
            {
                request.Pending = task;
                task.ConfigureAwait(false).GetAwaiter().UnsafeOnCompleted(request.Completed);
                if (!_export.IsParallel)
                {
                    Finish();
                }

                return;
            }

            task.GetAwaiter().GetResult();
            _replies.Succeed(request);
        }
        catch (Exception exception)
        {
            Fail(request, exception);
        }

        Enqueue(request);
    }

    // On any thread; nothing may come out of it.
    private void OnCompleted(ServerRequest request)
    {
        ValueTask task = request.Pending;
        request.Pending = default;
        try
        {
            task.GetAwaiter().GetResult();
            _replies.Succeed(request);
        }
        catch (Exception exception)
        {
            Fail(request, exception);
        }

        _ = _sender.Enqueue(request);
        _sender.Flush(mayBlock: false);
    }

    private ValueTask Invoke(ServerRequest request)
    {
        NbdRequestHeader header = request.Header;
        long offset = (long)header.Offset;
        long length = (long)header.Length;
        bool forceUnitAccess = (header.Flags & NbdCommandFlags.ForceUnitAccess) != 0;
        switch (header.Type)
        {
            case NbdCommandType.Read:
                request.IsFragmented = false;
                return _sendsHoles && (header.Flags & NbdCommandFlags.DontFragment) == 0
                    ? ReadPiecesAsync(request)
                    : _backend.ReadAsync(offset, request.Payload, _cancellationToken);
            case NbdCommandType.Write:
                return _backend.WriteAsync(offset, request.Payload, forceUnitAccess, _cancellationToken);
            case NbdCommandType.Flush:
                return _backend.FlushAsync(_cancellationToken);
            case NbdCommandType.Trim:
                return _backend.TrimAsync(offset, length, forceUnitAccess, _cancellationToken);
            case NbdCommandType.Cache:
                return _backend.CacheAsync(offset, length, _cancellationToken);
            case NbdCommandType.WriteZeroes:
                NbdZeroOptions options = forceUnitAccess ? NbdZeroOptions.ForceUnitAccess : 0;
                options |= (header.Flags & NbdCommandFlags.NoHole) != 0 ? NbdZeroOptions.NoHole : 0;
                options |= (header.Flags & NbdCommandFlags.FastZero) != 0 ? NbdZeroOptions.Fast : 0;
                return _backend.WriteZeroesAsync(offset, length, options, _cancellationToken);
            default:
                bool isOne = (header.Flags & NbdCommandFlags.RequestOne) != 0;
                request.Extents.Begin(length, isOne ? 1 : MaximumStatusExtents);
                // No extent is "all data".
                return _export.Has(NbdBackendCapabilities.Extents)
                    ? _backend.ExtentsAsync(offset, length, request.Extents, _cancellationToken)
                    : ValueTask.CompletedTask;
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask ReadPiecesAsync(ServerRequest request)
    {
        long offset = (long)request.Header.Offset;
        int length = request.Payload.Length;
        NbdExtentList extents = request.Extents;
        extents.Begin(length, MaximumReadExtents, isOptional: true);
        await _backend.ExtentsAsync(offset, length, extents, _cancellationToken).ConfigureAwait(false);
        int done = 0;
        int dataStart = 0;
        for (int i = 0; i < extents.Count; i++)
        {
            (long extentLength, NbdExtentFlags flags) = extents[i];
            if ((flags & NbdExtentFlags.Zero) != 0)
            {
                await ReadPartAsync(request, dataStart, done).ConfigureAwait(false);
                request.IsFragmented = true;
                dataStart = done + (int)extentLength;
            }

            done += (int)extentLength;
        }

        await ReadPartAsync(request, dataStart, length).ConfigureAwait(false);
    }

    private ValueTask ReadPartAsync(ServerRequest request, int start, int end) => start == end
        ? ValueTask.CompletedTask
        : _backend.ReadAsync((long)request.Header.Offset + start, request.Payload[start..end], _cancellationToken);

    private void Fail(ServerRequest request, Exception exception)
    {
        bool isFastZero = (request.Header.Flags & NbdCommandFlags.FastZero) != 0;
        uint error = BackendError.From(exception, isFastZero);
        string text = PlainText.From(exception.Message);
        if (!(isFastZero && exception is NotSupportedException) && !_cancellationToken.IsCancellationRequested)
        {
            _log.Write(
                $"{request.Header.Type} of {request.Header.Length} bytes at {request.Header.Offset}: {text}");
        }

        _replies.Fail(request, error, text);
    }
}
