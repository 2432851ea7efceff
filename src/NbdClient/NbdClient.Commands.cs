using System.Runtime.ExceptionServices;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>The commands: ranges are checked; what is too big for one command is sent in pieces.</content>
public sealed partial class NbdClient
{
    // Of one call that is too big for one command: enough to keep the wire busy, little enough to leave room.
    private const int PiecesInFlight = 4;

    /// <summary>Reads bytes. The buffer is filled whole, or the call fails.</summary>
    /// <param name="offset">First byte, 0 to the size of the export.</param>
    /// <param name="buffer">Where they go. Not touched any more once the task has ended.</param>
    /// <param name="cancellationToken">Ends the wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="offset"/> is negative.</exception>
    /// <exception cref="NbdException">
    /// EINVAL: past the end of the export. Else what the server said; EIO stands for a lost connection, too.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        CheckRange(NbdCommandType.Read, offset, buffer.Length);
        if (buffer.IsEmpty || cancellationToken.IsCancellationRequested)
        {
            return Nothing(cancellationToken);
        }

        return buffer.Length <= _pool.MaximumReadBytes
            ? TakeOperation().ReadAsync(_bytes, offset, buffer, cancellationToken)
            : ReadInPiecesAsync(offset, buffer, cancellationToken);
    }

    /// <summary>Writes bytes.</summary>
    /// <param name="offset">First byte, 0 to the size of the export.</param>
    /// <param name="data">The data. Must stay as it is until the task has ended.</param>
    /// <param name="flags">
    /// FUA: on stable storage before the task ends (a FLUSH follows where the server has no FUA); or none.
    /// </param>
    /// <param name="cancellationToken">Ends the wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="offset"/> is negative.</exception>
    /// <exception cref="ArgumentException"><paramref name="flags"/> has another flag.</exception>
    /// <exception cref="NbdException">
    /// EROFS: the export is read-only. ENOSPC: past its end. Else what the server said; EIO stands for a lost
    /// connection, too.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public ValueTask WriteAsync(
        long offset,
        ReadOnlyMemory<byte> data,
        NbdCommandFlags flags = NbdCommandFlags.None,
        CancellationToken cancellationToken = default)
    {
        CheckFlags(flags, NbdCommandFlags.ForceUnitAccess);
        CheckRange(NbdCommandType.Write, offset, data.Length);
        if (data.IsEmpty || cancellationToken.IsCancellationRequested)
        {
            return Nothing(cancellationToken);
        }

        return data.Length <= _pool.MaximumReadBytes
            ? TakeOperation().WriteAsync(_bytes, offset, data, flags, cancellationToken)
            : WriteInPiecesAsync(offset, data, flags, cancellationToken);
    }

    /// <summary>
    /// Makes durable all that was written before: by commands whose task had ended when this was called. Does
    /// nothing where the server has no FLUSH.
    /// </summary>
    /// <param name="cancellationToken">Ends the wait at once.</param>
    /// <exception cref="NbdException">
    /// What the server said. EIO: a connection was lost, and with it perhaps what was written.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public ValueTask FlushAsync(CancellationToken cancellationToken = default) =>
        !Export.CanFlush || cancellationToken.IsCancellationRequested
            ? Nothing(cancellationToken)
            : TakeOperation().FlushAsync(_pool, cancellationToken);

    /// <summary>
    /// Says that the content of a range is not needed any more. What it reads as afterwards is unknown: use
    /// <see cref="WriteZeroesAsync"/> to get zeroes.
    /// </summary>
    /// <param name="offset">First byte, 0 to the size of the export.</param>
    /// <param name="length">Bytes, 0 or more.</param>
    /// <param name="flags">FUA, as for <see cref="WriteAsync"/>, or none.</param>
    /// <param name="cancellationToken">Ends the wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative range.</exception>
    /// <exception cref="ArgumentException"><paramref name="flags"/> has another flag.</exception>
    /// <exception cref="NbdException">As for <see cref="WriteAsync"/>; EOPNOTSUPP: the server has no TRIM.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public ValueTask TrimAsync(
        long offset,
        long length,
        NbdCommandFlags flags = NbdCommandFlags.None,
        CancellationToken cancellationToken = default)
    {
        CheckFlags(flags, NbdCommandFlags.ForceUnitAccess);
        CheckSupport(NbdCommandType.Trim, Export.CanTrim);
        return RunOverRange(NbdCommandType.Trim, offset, length, flags, cancellationToken);
    }

    /// <summary>Makes a range read as zeroes, without sending them.</summary>
    /// <param name="offset">First byte, 0 to the size of the export.</param>
    /// <param name="length">Bytes, 0 or more.</param>
    /// <param name="flags">
    /// FUA, as for <see cref="WriteAsync"/>; NO_HOLE: the range stays allocated; FAST_ZERO (where
    /// <see cref="NbdExport.CanFastZero"/>): fail with EOPNOTSUPP if it is not faster than writing; or none.
    /// </param>
    /// <param name="cancellationToken">Ends the wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative range.</exception>
    /// <exception cref="ArgumentException"><paramref name="flags"/> has another flag.</exception>
    /// <exception cref="NbdException">
    /// As for <see cref="WriteAsync"/>; EOPNOTSUPP: the server has no WRITE_ZEROES or no FAST_ZERO.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public ValueTask WriteZeroesAsync(
        long offset,
        long length,
        NbdCommandFlags flags = NbdCommandFlags.None,
        CancellationToken cancellationToken = default)
    {
        CheckFlags(flags, NbdCommandFlags.ForceUnitAccess | NbdCommandFlags.NoHole | NbdCommandFlags.FastZero);
        CheckSupport(
            NbdCommandType.WriteZeroes,
            Export.CanWriteZeroes && (Export.CanFastZero || !flags.HasFlag(NbdCommandFlags.FastZero)));
        return RunOverRange(NbdCommandType.WriteZeroes, offset, length, flags, cancellationToken);
    }

    /// <summary>Says that a range will be read soon.</summary>
    /// <param name="offset">First byte, 0 to the size of the export.</param>
    /// <param name="length">Bytes, 0 or more.</param>
    /// <param name="cancellationToken">Ends the wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative range.</exception>
    /// <exception cref="NbdException">As for <see cref="ReadAsync"/>; EOPNOTSUPP: the server has no CACHE.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public ValueTask CacheAsync(long offset, long length, CancellationToken cancellationToken = default)
    {
        CheckSupport(NbdCommandType.Cache, Export.CanCache);
        return RunOverRange(NbdCommandType.Cache, offset, length, NbdCommandFlags.None, cancellationToken);
    }

    private static ValueTask Nothing(CancellationToken cancellationToken) =>
        cancellationToken.IsCancellationRequested
            ? ValueTask.FromCanceled(cancellationToken)
            : ValueTask.CompletedTask;

    private static void CheckFlags(NbdCommandFlags flags, NbdCommandFlags possible)
    {
        if ((flags & ~possible) != 0)
        {
            throw new ArgumentException($"The flags {flags & ~possible} mean nothing to this command.", nameof(flags));
        }
    }

    private void CheckSupport(NbdCommandType type, bool isSupported)
    {
        if (!isSupported)
        {
            throw Refused(type, "the server does not support it", Errno.EOPNOTSUPP);
        }
    }

    private void CheckRange(NbdCommandType type, long offset, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        bool isChange = type is NbdCommandType.Write or NbdCommandType.Trim or NbdCommandType.WriteZeroes;
        if (isChange && Export.IsReadOnly)
        {
            throw Refused(type, "the export is read-only", Errno.EROFS);
        }

        if (offset > SizeBytes || length > SizeBytes - offset)
        {
            throw Refused(
                type,
                $"{length} bytes at offset {offset} reach past the end of its {SizeBytes} bytes",
                isChange ? Errno.ENOSPC : Errno.EINVAL);
        }
    }

    private NbdException Refused(NbdCommandType type, string why, Errno errno) =>
        new($"{NameOf(type)} on {Endpoint.FormatUri(Export.Name)}: {why}", errno);

    /// <returns>Whether a FLUSH must stand in for FUA.</returns>
    private bool ReplaceForceUnitAccess(ref NbdCommandFlags flags)
    {
        if (!flags.HasFlag(NbdCommandFlags.ForceUnitAccess) || Export.CanForceUnitAccess)
        {
            return false;
        }

        flags &= ~NbdCommandFlags.ForceUnitAccess;
        return true;
    }

    // Methods of their own: a lambda's captured variables are allocated where the method begins.
    private ValueTask ReadInPiecesAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        TransferAsync(offset, buffer.Length, (start, count) => TakeOperationOfTransfer().ReadAsync(
            _bytes, offset + start, buffer.Slice(start, count), cancellationToken));

    private ValueTask WriteInPiecesAsync(
        long offset, ReadOnlyMemory<byte> data, NbdCommandFlags flags, CancellationToken cancellationToken)
    {
        bool flush = ReplaceForceUnitAccess(ref flags) && Export.CanFlush;
        return TransferAsync(
            offset,
            data.Length,
            (start, count) => TakeOperationOfTransfer().WriteAsync(
                _bytes, offset + start, data.Slice(start, count), flags, cancellationToken),
            flush ? () => TakeOperationOfTransfer().FlushAsync(_pool, cancellationToken) : null);
    }

    /// <summary>
    /// Moves more than one command can carry. The transfer counts as in flight from its beginning to its end, so that a
    /// client that is disposed meanwhile waits for all of it.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="begin">Begins a piece: so many bytes from a position in the caller's memory on.</param>
    /// <param name="end">What follows when all of it was moved; null for nothing.</param>
    private async ValueTask TransferAsync(
        long offset, int length, Func<int, int, ValueTask> begin, Func<ValueTask>? end = null)
    {
        BeginTransfer();
        try
        {
            await MoveAsync(offset, length, begin).ConfigureAwait(false);
            if (end is not null)
            {
                await end().ConfigureAwait(false);
            }
        }
        finally
        {
            EndTransfer();
        }
    }

    /// <summary>
    /// The pieces. After an error no further piece is begun; the end comes when no piece
    /// is in flight, since each still uses its part of the caller's memory.
    /// </summary>
    private async ValueTask MoveAsync(long offset, int length, Func<int, int, ValueTask> begin)
    {
        Queue<Task> inFlight = new(PiecesInFlight);
        Exception? first = null;
        int start = 0;
        while (true)
        {
            try
            {
                while (first is null && start < length && inFlight.Count < PiecesInFlight)
                {
                    // Each ends at a block boundary, so that only the first and the last may have parts of blocks.
                    int inBlock = (int)(offset + start) & (Export.MinimumBlockBytes - 1);
                    int count = Math.Min(length - start, _pool.MaximumReadBytes - inBlock);
                    inFlight.Enqueue(begin(start, count).AsTask());
                    start += count;
                }

                if (!inFlight.TryDequeue(out Task? oldest))
                {
                    break;
                }

                await oldest.ConfigureAwait(false);
            }
            catch (Exception e) when (e is NbdException or OperationCanceledException or ObjectDisposedException)
            {
                first ??= e;
            }
        }

        if (first is not null)
        {
            ExceptionDispatchInfo.Throw(first);
        }
    }

    private ValueTask RunOverRange(
        NbdCommandType type, long offset, long length, NbdCommandFlags flags, CancellationToken cancellationToken)
    {
        CheckRange(type, offset, length);
        if (length == 0 || cancellationToken.IsCancellationRequested)
        {
            return Nothing(cancellationToken);
        }

        return TakeOperation().RunAsync(_bytes, type, offset, length, flags, cancellationToken);
    }
}
