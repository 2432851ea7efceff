using System.Buffers;
using System.Runtime.InteropServices;
using System.Threading.Tasks.Sources;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// One command of <see cref="NbdClient"/>, awaitable and reused. Two parties hold it: the awaiting caller, until it
/// has the result, and the command on the wire, until its completion. A cancelled command is an orphan: its caller
/// is gone, so its completion touches no memory of the caller, and only then it is reused.
/// </summary>
internal sealed unsafe class CommandOperation : NbdCompletion, IValueTaskSource, IAwaitedCommand
{
    // Of this size on receiving in place pays: smaller ones come several at a time into the connection's memory.
    private const int LargeReadBytes = 64 << 10;

    private readonly NbdClient _client;
    private ManualResetValueTaskSourceCore<bool> _result;
    private NbdCommandType _type;
    private long _offset;
    private long _length;

    // Where a READ goes. Only touched by the party that moved _state away from Pending.
    private Memory<byte> _destination;

    // A WRITE's data, or where a large READ's goes; pinned until the completion.
    private MemoryHandle _pinned;
    private byte[]? _copy;

    private CancellationTokenRegistration _registration;

    // Only with a time limit. The source is used for one command after the other until it fires.
    private CancellationTokenSource? _timer;
    private CancellationTokenRegistration _timeLimit;

    // What the server said about the error. A series may get another error than it ends with, such as one that it knows
    // to avoid: so the first about the last error number is kept.
    private NbdServerError? _said;

    private long _started;
    private int _state;
    private int _holders;

    internal CommandOperation(NbdClient client)
    {
        _client = client;
    }

    private static class State
    {
        internal const int Pending = 0;
        internal const int Answered = 1;
        internal const int Cancelled = 2;
    }

    /// <summary>Sends a READ into <paramref name="destination"/>, which nobody touches after the result.</summary>
    internal ValueTask ReadAsync(
        NbdByteAccess bytes, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        Begin(NbdCommandType.Read, offset, destination.Length);
        _destination = destination;
        Errno error;
        if (CanReceiveInto(destination, cancellationToken))
        {
            _pinned = destination.Pin();
            error = bytes.Read((ulong)offset, (byte*)_pinned.Pointer, (uint)destination.Length, this);
        }
        else
        {
            error = bytes.Read((ulong)offset, (uint)destination.Length, this);
        }

        return Accepted(error, cancellationToken);
    }

    /// <summary>Sends a WRITE. The caller may change its data as soon as it has the result.</summary>
    internal ValueTask WriteAsync(
        NbdByteAccess bytes,
        long offset,
        ReadOnlyMemory<byte> data,
        NbdCommandFlags flags,
        CancellationToken cancellationToken)
    {
        Begin(NbdCommandType.Write, offset, data.Length);
        if (cancellationToken.CanBeCanceled || _client.HasCommandTimeout)
        {
            // An orphan may still be sending when the caller reuses its memory.
            _copy = ArrayPool<byte>.Shared.Rent(data.Length);
            data.CopyTo(_copy);
            _pinned = _copy.AsMemory().Pin();
        }
        else
        {
            _pinned = data.Pin();
        }

        Errno error = bytes.Write((ulong)offset, (byte*)_pinned.Pointer, (uint)data.Length, flags, this);
        return Accepted(error, cancellationToken);
    }

    /// <summary>Sends TRIM, WRITE_ZEROES or CACHE.</summary>
    internal ValueTask RunAsync(
        NbdByteAccess bytes,
        NbdCommandType type,
        long offset,
        long length,
        NbdCommandFlags flags,
        CancellationToken cancellationToken)
    {
        Begin(type, offset, length);
        Errno error = type switch
        {
            NbdCommandType.Trim => bytes.Trim((ulong)offset, (ulong)length, flags, this),
            NbdCommandType.WriteZeroes => bytes.WriteZeroes((ulong)offset, (ulong)length, flags, this),
            NbdCommandType.Cache => bytes.Cache((ulong)offset, (ulong)length, this),
            _ => Errno.EOPNOTSUPP,
        };
        return Accepted(error, cancellationToken);
    }

    /// <summary>Sends a FLUSH.</summary>
    internal ValueTask FlushAsync(NbdConnectionPool pool, CancellationToken cancellationToken)
    {
        Begin(NbdCommandType.Flush, 0, 0);
        return Accepted(pool.Flush(this), cancellationToken);
    }

    /// <inheritdoc/>
    protected internal override bool IsAbandoned => Volatile.Read(ref _state) == State.Cancelled;

    /// <inheritdoc/>
    protected internal override void OnCompleted(Errno outcome, byte* data)
    {
        // The wire has let go of the data.
        bool isInPlace = data == _pinned.Pointer;
        _pinned.Dispose();
        if (Interlocked.CompareExchange(ref _state, State.Answered, State.Pending) == State.Pending)
        {
            Answer(outcome, isInPlace ? null : data);
        }

        ClientMetrics.End(_type, _started, _length, outcome);
        _client.CommandCompleted();
        Release();
    }

    /// <inheritdoc/>
    protected internal override void OnServerError(NbdServerError said)
    {
        if (Volatile.Read(ref _said)?.Errno != said.Errno)
        {
            Volatile.Write(ref _said, said);
        }
    }

    void IAwaitedCommand.GoOn()
    {
        _result.RunContinuationsAsynchronously = false;
        _result.SetResult(true);
    }

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _result.GetStatus(token);

    void IValueTaskSource.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _result.OnCompleted(continuation, state, token, flags);

    void IValueTaskSource.GetResult(short token)
    {
        // Throws for a token of the past, before anything is released.
        _ = _result.GetStatus(token);
        // Waits for a running Cancel or TimeOut, so that none meets the next command.
        _registration.Dispose();
        _timeLimit.Dispose();
        if (_timer is not null && !_timer.TryReset())
        {
            _timer.Dispose();
            _timer = null;
        }

        try
        {
            _result.GetResult(token);
        }
        finally
        {
            Release();
        }
    }

    /// <summary>
    /// Whether the connection may write there until the completion: the caller cannot go away before, and an array is
    /// not freed while it is pinned, as other memory may be by mistake.
    /// </summary>
    private bool CanReceiveInto(Memory<byte> destination, CancellationToken cancellationToken) =>
        destination.Length >= LargeReadBytes && !cancellationToken.CanBeCanceled && !_client.HasCommandTimeout
        && MemoryMarshal.TryGetArray<byte>(destination, out _);

    private void Begin(NbdCommandType type, long offset, long length)
    {
        (_type, _offset, _length) = (type, offset, length);
        (_state, _holders) = (State.Pending, 2);
        _result.RunContinuationsAsynchronously = true;
        _started = ClientMetrics.Begin();
    }

    private ValueTask Accepted(Errno error, CancellationToken cancellationToken)
    {
        ValueTask task = new(this, _result.Version);
        if (error != Errno.None)
        {
            // No completion will come.
            OnCompleted(error, null);
        }
        else
        {
            // Nobody can have the result yet, so this is still the command that was begun.
            _registration = cancellationToken.UnsafeRegister(
                static (state, token) => ((CommandOperation)state!).Cancel(token), this);
            if (_client.HasCommandTimeout)
            {
                _timer ??= new CancellationTokenSource();
                _timeLimit = _timer.Token.UnsafeRegister(static state => ((CommandOperation)state!).TimeOut(), this);
                _timer.CancelAfter(_client.CommandTimeout);
            }
        }

        return task;
    }

    private void Cancel(CancellationToken cancellationToken) =>
        Abandon(new OperationCanceledException(cancellationToken));

    private void TimeOut() => Abandon(_client.TimedOut(_type, _offset, _length));

    private void Abandon(Exception reason)
    {
        if (Interlocked.CompareExchange(ref _state, State.Cancelled, State.Pending) == State.Pending)
        {
            _destination = default;
            _result.SetException(reason);
        }
    }

    private void Answer(Errno outcome, byte* data)
    {
        try
        {
            if (outcome == Errno.None)
            {
                if (data is not null)
                {
                    new ReadOnlySpan<byte>(data, _destination.Length).CopyTo(_destination.Span);
                }

                if (!NbdConnection.TryHandOn(this))
                {
                    _result.SetResult(true);
                }

                return;
            }
        }
        catch (ObjectDisposedException e)
        {
            // The caller gave its memory away while the command ran. That must not end the receive thread.
            _result.SetException(e);
            return;
        }

        _result.SetException(_client.Failed(_type, _offset, _length, outcome, Volatile.Read(ref _said)));
    }

    private void Release()
    {
        if (Interlocked.Decrement(ref _holders) > 0)
        {
            return;
        }

        if (_copy is not null)
        {
            ArrayPool<byte>.Shared.Return(_copy);
        }

        (_copy, _destination, _pinned, _said) = (null, default, default, null);
        (_registration, _timeLimit) = (default, default);
        _result.Reset();
        _client.Recycle(this);
    }
}
