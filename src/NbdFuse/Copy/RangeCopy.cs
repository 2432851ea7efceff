using Fuse;
using Linux;
using Nbd;
using Nbd.Protocol;

namespace NbdFuse;

/// <summary>
/// One copy_file_range(2): what the source's server calls zero becomes WRITE_ZEROES, the rest goes through a few slots
/// of memory, several parts at a time. It ends when none of its commands is in flight.
/// </summary>
/// <param name="request">Not answered before the copy has ended.</param>
/// <param name="source">Where from; inside the export.</param>
/// <param name="destination">Where to; inside its export, as long, without a byte in common.</param>
internal sealed class RangeCopy(FuseRequest request, ExportRange source, ExportRange destination)
{
    // The kernel holds the destination's inode locked while it waits, unkillably for others who write to it: callers go
    // on with another call.
    private const ulong MostData = 64 << 20;

    private readonly ulong _end = source.Offset + source.Length;
    private readonly Queue<(Task<Errno> Outcome, ulong Length, int Slot)> _inFlight = new();

    // The next byte of the source, and what is known about it and its successors.
    private ulong _position = source.Offset;
    private ulong _data;
    private IReadOnlyList<(ulong End, bool IsZero)> _runs = [];
    private int _run;

    /// <summary>Bytes from the start on that are copied, once <see cref="Run"/> has ended.</summary>
    internal ulong Copied { get; private set; }

    /// <summary>Copies.</summary>
    /// <returns>The first error, unless something before it was copied.</returns>
    internal async Task<Errno> Run()
    {
        Stack<int> slots = CopyMemory.Take();
        if (slots.Count == 0)
        {
            // The kernel then copies through its cache.
            return Errno.EOPNOTSUPP;
        }

        Errno failed = Errno.None;
        while (true)
        {
            if (_position < _end && _data < MostData && failed == Errno.None && slots.Count > 0)
            {
                if (!request.IsPending)
                {
                    failed = Errno.EINTR;
                    continue;
                }

                (ulong runEnd, bool isZero) = await RunAtPosition().ConfigureAwait(false);
                Begin(runEnd, isZero, slots.Pop());
            }
            else if (_inFlight.TryDequeue(out (Task<Errno> Outcome, ulong Length, int Slot) oldest))
            {
                Errno error = await oldest.Outcome.ConfigureAwait(false);
                slots.Push(oldest.Slot);
                failed = failed == Errno.None ? error : failed;
                Copied += failed == Errno.None ? oldest.Length : 0;
            }
            else
            {
                CopyMemory.Return(slots);
                return Copied > 0 ? Errno.None : failed;
            }
        }
    }

    private void Begin(ulong runEnd, bool isZero, int slot)
    {
        ulong from = _position;
        ulong to = destination.Offset + (from - source.Offset);
        ulong length = runEnd - from;
        if (isZero)
        {
            _inFlight.Enqueue((Zero(to, length), length, slot));
        }
        else
        {
            // Parts end where whole blocks of the destination do.
            const ulong Slot = BlockMemory.SlotBytes;
            length = Math.Min(length, Slot - (to & (Slot - 1)));
            _inFlight.Enqueue((Move(from, to, (uint)length, CopyMemory.Address(slot)), length, slot));
            _data += length;
        }

        _position += length;
    }

    /// <summary>What lies at the position. The first run that a server tells may end before it: it begins with a block.</summary>
    private async ValueTask<(ulong End, bool IsZero)> RunAtPosition()
    {
        if (_runs.Count == 0 || _runs[^1].End <= _position)
        {
            _runs = await source.Export.AskAllocation(_position, _end - _position).ConfigureAwait(false);
            _run = 0;
        }

        while (_runs[_run].End <= _position)
        {
            _run++;
        }

        return _runs[_run];
    }

    private Task<Errno> Zero(ulong offset, ulong length) => CopyCommand.Run(
        request, command => destination.Export.Bytes.WriteZeroes(offset, length, NbdCommandFlags.None, command));

    private async Task<Errno> Move(ulong from, ulong to, uint length, nint memory)
    {
        Errno error = await CopyCommand.Run(request, Read).ConfigureAwait(false);
        return error != Errno.None ? error
            : !request.IsPending ? Errno.EINTR
            : await CopyCommand.Run(request, Write).ConfigureAwait(false);

        unsafe Errno Read(NbdCompletion command) =>
            source.Export.Bytes.Read(from, (byte*)memory, length, command);

        unsafe Errno Write(NbdCompletion command) =>
            destination.Export.Bytes.Write(to, (byte*)memory, length, NbdCommandFlags.None, command);
    }
}
