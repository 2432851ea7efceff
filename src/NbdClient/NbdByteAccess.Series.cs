using System.Buffers;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>What needs more than one command. A series ends when none of its commands is in flight.</content>
public sealed partial class NbdByteAccess
{
    // Without extended headers 2^32-1 bytes are possible; smaller steps let a long series be abandoned.
    private const ulong LargestStep = 1 << 30;
    private const ulong LargestExtendedStep = 1UL << 62;

    private const int CommandsInFlight = 8;

    // Blocks kept for the next edits.
    private const int MaximumIdleBlocks = 16;

    // What the completion of a READ may overwrite before its data.
    private const int HeaderRoom = 16;

    // Nobody writes to it: what WRITE_ZEROES is emulated with.
    private static readonly NativeBuffer s_zeroes = new(1 << 20);

    private readonly ConcurrentQueue<byte[]> _idleBlocks = new();

    private int BlockBytes => (int)_mask + 1;

    /// <summary>Reads to where the data belongs, for callers who can wait.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="destination">Filled whole, unless the task ends with an error; pinned until it ends.</param>
    /// <returns>What the other overloads return, or what their completion gets.</returns>
    public async Task<Errno> ReadAsync(ulong offset, Memory<byte> destination)
    {
        if (destination.IsEmpty)
        {
            return Errno.None;
        }

        using MemoryHandle pinned = destination.Pin();
        return await ReadPart(offset, Address(pinned), (uint)destination.Length, series: null).ConfigureAwait(false);
    }

    /// <param name="series">What was begun.</param>
    /// <param name="completion">Told the outcome.</param>
    /// <param name="data">Where a READ put its data; 0 for all others.</param>
    /// <param name="memory">Memory of our own that it is in, which must live until the completion has been called.</param>
    private static async void Start(
        Task<Errno> series, NbdCompletion completion, nint data, byte[]? memory = null)
    {
        Errno outcome;
        try
        {
            outcome = await series.ConfigureAwait(false);
        }
        catch (OutOfMemoryException)
        {
            outcome = Errno.ENOMEM;
        }

        Complete(completion, outcome, outcome == Errno.None ? data : 0);
        GC.KeepAlive(memory);
    }

    private static unsafe void Complete(NbdCompletion completion, Errno outcome, nint data) =>
        completion.OnCompleted(outcome, (byte*)data);

    private static unsafe nint Address(MemoryHandle pinned) => (nint)pinned.Pointer;

    private static unsafe nint Zeroes() => (nint)s_zeroes.Start;

    private static unsafe void Put(nint payload, ulong length, byte[] block, ulong start)
    {
        Span<byte> edited = block.AsSpan((int)start, (int)length);
        if (payload == 0)
        {
            edited.Clear();
        }
        else
        {
            new ReadOnlySpan<byte>((byte*)payload, (int)length).CopyTo(edited);
        }
    }

    private unsafe Task<Errno> ReadPart(ulong offset, nint destination, uint length, NbdCompletion? series) =>
        CommandTask.Run(series, completion => Read(offset, (byte*)destination, length, completion));

    private unsafe Task<Errno> WritePart(
        ulong offset, nint payload, uint length, NbdCommandFlags flags, NbdCompletion series) =>
        CommandTask.Run(series, completion => _pool.Write(offset, (byte*)payload, length, flags, completion));

    private Task<Errno> ReadPartsAsync(ulong offset, nint destination, uint length, NbdCompletion completion) =>
        InPartsAsync(offset, length, _maximumRead, completion, (at, part) =>
            ReadPart(at, destination + (nint)(at - offset), part, completion));

    private void StartReadToOwnMemory(ulong offset, uint length, NbdCompletion completion)
    {
        byte[] memory = GC.AllocateUninitializedArray<byte>(checked(HeaderRoom + (int)length), pinned: true);
        nint data = Marshal.UnsafeAddrOfPinnedArrayElement(memory, HeaderRoom);
        Start(ReadPartsAsync(offset, data, length, completion), completion, data, memory);
    }

    /// <summary>Changes a range: the whole blocks in its middle, and the blocks at its ends that it covers in part.</summary>
    private async Task<Errno> ChangeAsync(
        NbdCommandType type, ulong offset, nint payload, ulong length, NbdCommandFlags flags, NbdCompletion completion)
    {
        bool needsFlush = NeedsFlush(flags);
        flags = needsFlush ? flags & ~NbdCommandFlags.ForceUnitAccess : flags;
        ulong end = offset + length;
        ulong middle = Math.Min(end, (offset + _mask) & ~_mask);
        ulong tail = Math.Max(middle, end & ~_mask);
        Task<Errno> blocks = ChangeBlocksAsync(
            type, middle, At(middle), tail - middle, flags, completion);
        if (flags.HasFlag(NbdCommandFlags.FastZero) && await blocks.ConfigureAwait(false) != Errno.None)
        {
            // It was refused because it would be slow: nothing is to be changed.
            return blocks.Result;
        }

        Task<Errno> head = EditAsync(type, offset, payload, middle - offset, flags, completion);
        Task<Errno> foot = EditAsync(type, tail, At(tail), end - tail, flags, completion);
        Errno[] errors = await Task.WhenAll(head, blocks, foot).ConfigureAwait(false);
        Errno error = Array.Find(errors, error => error != Errno.None);
        return error == Errno.None && needsFlush && _export.CanFlush
            ? await CommandTask.Run(completion, _pool.Flush).ConfigureAwait(false)
            : error;

        nint At(ulong position) => payload == 0 ? 0 : payload + (nint)(position - offset);
    }

    private async Task<Errno> ChangeBlocksAsync(
        NbdCommandType type, ulong offset, nint payload, ulong length, NbdCommandFlags flags, NbdCompletion completion)
    {
        if (length == 0)
        {
            return Errno.None;
        }

        BlockRangeLock.Hold hold = new();
        if (_mask != 0)
        {
            await _ranges.EnterAsync(hold, offset, length, isExclusive: false).ConfigureAwait(false);
        }

        try
        {
            Task<Errno> series = type == NbdCommandType.Write
                ? InPartsAsync(offset, length, _maximumWrite, completion, (at, part) =>
                    WritePart(at, payload + (nint)(at - offset), part, flags, completion))
                : RunAsync(type, offset, length, flags, completion);
            return await series.ConfigureAwait(false);
        }
        finally
        {
            if (_mask != 0)
            {
                _ranges.Leave(hold);
            }
        }
    }

    /// <summary>Changes a part of one block: reads it, changes it, writes it back. Nobody changes it meanwhile.</summary>
    private async Task<Errno> EditAsync(
        NbdCommandType type, ulong offset, nint payload, ulong length, NbdCommandFlags flags, NbdCompletion completion)
    {
        if (length == 0 || type == NbdCommandType.Trim)
        {
            return Errno.None;
        }

        ulong start = offset & ~_mask;
        BlockRangeLock.Hold hold = new();
        await _ranges.EnterAsync(hold, start, (ulong)BlockBytes, isExclusive: true).ConfigureAwait(false);
        try
        {
            byte[] block = _idleBlocks.TryDequeue(out byte[]? idle)
                ? idle
                : GC.AllocateUninitializedArray<byte>(BlockBytes, pinned: true);
            nint memory = Marshal.UnsafeAddrOfPinnedArrayElement(block, 0);
            Errno error = completion.IsAbandoned
                ? Errno.EINTR
                : await ReadPart(start, memory, (uint)BlockBytes, completion).ConfigureAwait(false);
            if (error == Errno.None)
            {
                Put(payload, length, block, offset - start);
                error = completion.IsAbandoned
                    ? Errno.EINTR
                    : await WritePart(
                        start, memory, (uint)BlockBytes, flags & NbdCommandFlags.ForceUnitAccess, completion)
                        .ConfigureAwait(false);
            }

            if (_idleBlocks.Count < MaximumIdleBlocks)
            {
                _idleBlocks.Enqueue(block);
            }

            return error;
        }
        finally
        {
            _ranges.Leave(hold);
        }
    }

    /// <summary>
    /// Commands without data over whole blocks. Such a command may be longer than a payload, but a server may refuse
    /// that (proto.md, "Size constraints"); then a payload's length is the limit.
    /// </summary>
    private async Task<Errno> RunAsync(
        NbdCommandType type, ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion)
    {
        bool mayWriteZeroes = type == NbdCommandType.WriteZeroes && !flags.HasFlag(NbdCommandFlags.FastZero);
        bool isSupported = type != NbdCommandType.WriteZeroes || _export.CanWriteZeroes;
        ulong step = _export.ExtendedHeaders ? LargestExtendedStep : LargestStep;
        while (length > 0)
        {
            if (completion.IsAbandoned)
            {
                return Errno.EINTR;
            }

            ulong part = Math.Min(length, step);
            ulong at = offset;
            Errno error = isSupported
                ? await CommandTask.Run(completion, task => Submit(type, at, part, flags, task)).ConfigureAwait(false)
                : Errno.EOPNOTSUPP;
            switch (error)
            {
                case Errno.None:
                    offset += part;
                    length -= part;
                    break;
                case Errno.EINVAL or Errno.EOVERFLOW when part > _maximumWrite:
                    step = _maximumWrite;
                    break;
                case Errno.EOPNOTSUPP when mayWriteZeroes:
                    return await WriteZeroBytesAsync(
                        offset, length, flags & NbdCommandFlags.ForceUnitAccess, completion).ConfigureAwait(false);
                default:
                    return error;
            }
        }

        return Errno.None;
    }

    private Errno Submit(
        NbdCommandType type, ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion) => type switch
        {
            NbdCommandType.Trim => _pool.Trim(offset, length, flags, completion),
            NbdCommandType.WriteZeroes => _pool.WriteZeroes(offset, length, flags, completion),
            NbdCommandType.Cache => _pool.Cache(offset, length, completion),
            _ => Errno.EOPNOTSUPP,
        };

    private Task<Errno> WriteZeroBytesAsync(
        ulong offset, ulong length, NbdCommandFlags flags, NbdCompletion completion) =>
        InPartsAsync(offset, length, Math.Min((uint)s_zeroes.Length, _maximumWrite), completion, (at, part) =>
            WritePart(at, Zeroes(), part, flags, completion));

    /// <summary>
    /// Splits a range, at block boundaries. Ends only when every command that was sent has completed, because they use
    /// the caller's memory; the first error wins.
    /// </summary>
    private async Task<Errno> InPartsAsync(
        ulong offset, ulong length, uint largestPart, NbdCompletion completion, Func<ulong, uint, Task<Errno>> send)
    {
        Errno first = Errno.None;
        Queue<Task<Errno>> inFlight = new(CommandsInFlight);
        ulong end = offset + length;
        while (true)
        {
            if (offset < end && first == Errno.None && inFlight.Count < CommandsInFlight)
            {
                if (completion.IsAbandoned)
                {
                    first = Errno.EINTR;
                    continue;
                }

                ulong part = Math.Min(largestPart - (offset & _mask), end - offset);
                inFlight.Enqueue(send(offset, (uint)part));
                offset += part;
            }
            else if (inFlight.TryDequeue(out Task<Errno>? oldest))
            {
                Errno error = await oldest.ConfigureAwait(false);
                first = first == Errno.None ? error : first;
            }
            else
            {
                return first;
            }
        }
    }
}
