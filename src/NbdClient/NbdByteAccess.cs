using System.Collections.Concurrent;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// Any bytes of an export, over a pool whose commands take only whole blocks up to a largest size: proto.md, "Size
/// constraints". A read is widened to whole blocks; a write edits the blocks that it covers in part (read, change,
/// write back), which all connections of the pool see one after the other; zeroing sends the whole blocks as
/// WRITE_ZEROES and edits the others; a trim leaves the others alone. What exceeds the server's limits is sent in
/// parts. Thread-safe.
/// <para>
/// Commands for the same export that do not come through the same object are not kept apart from its edits.
/// </para>
/// <para>
/// A READ or WRITE that is one command allocates nothing, and costs nothing more than the pool's where the minimum
/// block is 1. Whatever needs more runs on the thread pool and may allocate; its completion is called there.
/// </para>
/// </summary>
public sealed unsafe partial class NbdByteAccess
{
    private readonly NbdConnectionPool _pool;
    private readonly NbdExport _export;

    // The minimum block less one.
    private readonly ulong _mask;
    private readonly uint _maximumRead;
    private readonly uint _maximumWrite;
    private readonly BlockRangeLock _ranges = new();
    private readonly ConcurrentQueue<WidenedRead> _idleReads = new();
    private readonly ConcurrentQueue<HeldWrite> _idleWrites = new();

    /// <param name="pool">The connections. Not taken over.</param>
    public NbdByteAccess(NbdConnectionPool pool)
    {
        ArgumentNullException.ThrowIfNull(pool);
        _pool = pool;
        _export = pool.Export;
        _mask = (ulong)_export.MinimumBlockBytes - 1;
        _maximumRead = (uint)(pool.MaximumReadBytes & ~(int)_mask);
        _maximumWrite = (uint)(_export.MaximumPayloadBytes & ~(int)_mask);
        SizeBytes = _export.SizeBytes & ~(long)_mask;
    }

    /// <summary>
    /// Bytes that can be accessed: the size of the export, rounded down to whole blocks, because no command can reach
    /// the rest.
    /// </summary>
    public long SizeBytes { get; }

    /// <summary>
    /// Whether a READ of a range needs no more than one command. Then it needs no memory: the data may stay where it
    /// is received.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes, at least 1.</param>
    public bool IsOneRead(ulong offset, uint length) =>
        ((offset + length + _mask) & ~_mask) - (offset & ~_mask) <= _maximumRead;

    /// <summary>Reads. The completion gets all <paramref name="length"/> bytes or an error.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>
    /// None: accepted. EINVAL: past the end. EIO: every connection is lost. ENOMEM: too many commands in flight.
    /// </returns>
    public Errno Read(ulong offset, uint length, NbdCompletion completion)
    {
        ArgumentNullException.ThrowIfNull(completion);
        if (!IsInside(offset, length))
        {
            return Errno.EINVAL;
        }

        if (!IsOneRead(offset, length))
        {
            StartReadToOwnMemory(offset, length, completion);
            return Errno.None;
        }

        return IsWhole(offset, length)
            ? _pool.Read(offset, length, NbdCommandFlags.None, completion)
            : ReadWidened(offset, null, length, completion);
    }

    /// <summary>Reads to where the data belongs.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="destination">
    /// Memory of <paramref name="length"/> bytes: written to at any time, and must not move, until the completion, also
    /// when that reports an error. The completion gets it as its data.
    /// </param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>As for the overload without a destination.</returns>
    public Errno Read(ulong offset, byte* destination, uint length, NbdCompletion completion)
    {
        ArgumentNullException.ThrowIfNull(completion);
        if (!IsInside(offset, length))
        {
            return Errno.EINVAL;
        }

        if (!IsOneRead(offset, length))
        {
            Start(
                ReadPartsAsync(offset, (nint)destination, length, completion), completion, (nint)destination);
            return Errno.None;
        }

        return IsWhole(offset, length)
            ? _pool.Read(offset, destination, length, NbdCommandFlags.None, completion)
            : ReadWidened(offset, destination, length, completion);
    }

    /// <summary>Writes.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="payload">The data: must stay as it is, and not move, until the completion.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">FUA (a FLUSH follows where the server has no FUA) or none.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>None, EIO and ENOMEM as for a read; ENOSPC: past the end.</returns>
    public Errno Write(ulong offset, byte* payload, uint length, NbdCommandFlags flags, NbdCompletion completion)
    {
        ArgumentNullException.ThrowIfNull(completion);
        if (!IsInside(offset, length))
        {
            return Errno.ENOSPC;
        }

        if (IsWhole(offset, length) && length <= _maximumWrite && !NeedsFlush(flags))
        {
            if (_mask == 0)
            {
                return _pool.Write(offset, payload, length, flags, completion);
            }

            HeldWrite write = _idleWrites.TryDequeue(out HeldWrite? idle) ? idle : new HeldWrite(this);
            if (_ranges.TryEnterShared(write.Hold, offset, length))
            {
                return write.Begin(_pool, offset, payload, length, flags, completion);
            }

            _idleWrites.Enqueue(write);
        }

        Start(ChangeAsync(NbdCommandType.Write, offset, (nint)payload, length, flags, completion), completion, 0);
        return Errno.None;
    }

    /// <summary>
    /// Makes a range read as zeroes. Where the server refuses WRITE_ZEROES of this length, or at all, zeroes are
    /// written.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">
    /// FUA, as for <see cref="Write"/>; NO_HOLE: stays allocated; FAST_ZERO: fail with EOPNOTSUPP rather than write
    /// zeroes.
    /// </param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>None: accepted. ENOSPC: past the end.</returns>
    public Errno WriteZeroes(ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion) =>
        Change(NbdCommandType.WriteZeroes, offset, length, flags, completion);

    /// <summary>
    /// Trims the whole blocks of a range: afterwards nothing is known about their content. Blocks that are only partly
    /// inside stay as they are.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">FUA, as for <see cref="Write"/>, or none.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>None: accepted. ENOSPC: past the end.</returns>
    public Errno Trim(ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion) =>
        Change(NbdCommandType.Trim, offset, length, flags, completion);

    /// <summary>Says that a range will be read; it is widened to whole blocks.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="completion">Called once if the result is None, else never.</param>
    /// <returns>None: accepted. EINVAL: past the end.</returns>
    public Errno Cache(ulong offset, ulong length, NbdCompletion completion)
    {
        ArgumentNullException.ThrowIfNull(completion);
        if (!IsInside(offset, length))
        {
            return Errno.EINVAL;
        }

        ulong start = offset & ~_mask;
        ulong end = (offset + length + _mask) & ~_mask;
        Start(
            RunAsync(NbdCommandType.Cache, start, end - start, NbdCommandFlags.None, completion), completion, 0);
        return Errno.None;
    }

    private Errno Change(
        NbdCommandType type, ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion)
    {
        ArgumentNullException.ThrowIfNull(completion);
        if (!IsInside(offset, length))
        {
            return Errno.ENOSPC;
        }

        Start(ChangeAsync(type, offset, 0, length, flags, completion), completion, 0);
        return Errno.None;
    }

    private Errno ReadWidened(ulong offset, byte* destination, uint length, NbdCompletion completion)
    {
        WidenedRead read = _idleReads.TryDequeue(out WidenedRead? idle) ? idle : new WidenedRead(this);
        return read.Begin(_pool, offset, destination, length, completion);
    }

    private bool IsInside(ulong offset, ulong length) =>
        offset <= (ulong)SizeBytes && length <= (ulong)SizeBytes - offset;

    private bool IsWhole(ulong offset, ulong length) => ((offset | length) & _mask) == 0;

    private bool NeedsFlush(NbdCommandFlags flags) =>
        (flags & NbdCommandFlags.ForceUnitAccess) != 0 && !_export.CanForceUnitAccess;

    /// <summary>A READ of whole blocks that hands on the part that was asked for. Reused.</summary>
    private sealed class WidenedRead(NbdByteAccess access) : NbdCompletion
    {
        private NbdCompletion? _completion;
        private byte* _destination;
        private uint _start;
        private uint _length;

        internal Errno Begin(
            NbdConnectionPool pool, ulong offset, byte* destination, uint length, NbdCompletion completion)
        {
            ulong first = offset & ~access._mask;
            ulong end = (offset + length + access._mask) & ~access._mask;
            (_completion, _start, _length) = (completion, (uint)(offset - first), length);
            _destination = destination;
            Errno error = pool.Read(first, (uint)(end - first), NbdCommandFlags.None, this);
            if (error != Errno.None)
            {
                _ = TakeCompletion();
            }

            return error;
        }

        protected internal override void OnCompleted(Errno outcome, byte* data)
        {
            if (outcome != Errno.None)
            {
                TakeCompletion().OnCompleted(outcome, null);
                return;
            }

            data += _start;
            if (_destination is not null)
            {
                new ReadOnlySpan<byte>(data, (int)_length).CopyTo(new Span<byte>(_destination, (int)_length));
                data = _destination;
            }

            TakeCompletion().OnCompleted(Errno.None, data);
        }

        protected internal override void OnServerError(NbdServerError said) => _completion!.OnServerError(said);

        private NbdCompletion TakeCompletion()
        {
            NbdCompletion completion = _completion!;
            _completion = null;
            access._idleReads.Enqueue(this);
            return completion;
        }
    }

    /// <summary>A WRITE of whole blocks, which no edit may overlap. Reused.</summary>
    private sealed class HeldWrite(NbdByteAccess access) : NbdCompletion
    {
        private NbdCompletion? _completion;

        internal BlockRangeLock.Hold Hold { get; } = new();

        internal Errno Begin(
            NbdConnectionPool pool,
            ulong offset,
            byte* payload,
            uint length,
            NbdCommandFlags flags,
            NbdCompletion completion)
        {
            _completion = completion;
            Errno error = pool.Write(offset, payload, length, flags, this);
            if (error != Errno.None)
            {
                _ = TakeCompletion();
            }

            return error;
        }

        protected internal override void OnCompleted(Errno outcome, byte* data) =>
            TakeCompletion().OnCompleted(outcome, null);

        protected internal override SharedMemory? MemoryOf(byte* payload, out long offset) =>
            _completion!.MemoryOf(payload, out offset);

        protected internal override void OnServerError(NbdServerError said) => _completion!.OnServerError(said);

        private NbdCompletion TakeCompletion()
        {
            access._ranges.Leave(Hold);
            NbdCompletion completion = _completion!;
            _completion = null;
            access._idleWrites.Enqueue(this);
            return completion;
        }
    }
}
