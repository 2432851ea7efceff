using Fuse;
using Linux;
using Nbd;
using Nbd.Protocol;

namespace NbdFuse;

/// <summary>
/// Requests that need more than one NBD command: async methods over the same pool, so that no worker is blocked.
/// They run on the thread pool and may allocate. Thread-safe.
/// </summary>
internal sealed class CommandSeries(NbdConnectionPool pool)
{
    // Most bytes of one WRITE_ZEROES. The wire allows 2^32-1; a smaller step lets an INTERRUPT stop a long series.
    private const ulong LargestZeroes = 1 << 30;

    private const int CommandsInFlight = 8;

    // Nobody writes to it: what WRITE_ZEROES is emulated with.
    private static readonly NativeBuffer s_zeroes = new(1 << 20);

    /// <summary>Answers <paramref name="request"/> once its series has ended.</summary>
    internal static async void Start(FuseRequest request, ExportOperation.Kind kind, uint length, Task<Errno> series)
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

        Reply(request, kind, outcome, length);
    }

    /// <summary>Reads more than the server sends at a time.</summary>
    internal Task<Errno> Read(ulong offset, uint length, nint destination) => InParts(
        length,
        (uint)pool.MaximumReadBytes,
        (start, part) => CommandTask.Read(pool, offset + start, part, destination + (nint)start));

    /// <summary>Writes more than the server takes at a time, or durably without FUA.</summary>
    internal async Task<Errno> Write(ulong offset, nint payload, uint length, bool isDurable)
    {
        NbdCommandFlags flags = isDurable && pool.Export.CanForceUnitAccess
            ? NbdCommandFlags.ForceUnitAccess
            : NbdCommandFlags.None;
        Errno error = await InParts(
            length,
            (uint)pool.Export.MaximumPayloadBytes,
            (start, part) => CommandTask.Write(pool, offset + start, payload + (nint)start, part, flags))
            .ConfigureAwait(false);
        return error == Errno.None && isDurable && flags == NbdCommandFlags.None && pool.Export.CanFlush
            ? await CommandTask.Flush(pool).ConfigureAwait(false)
            : error;
    }

    /// <summary>
    /// Makes a range read as zeroes. Servers may refuse a WRITE_ZEROES that is larger than their payload, or at
    /// all: then smaller ones, then WRITEs of zeroes. Stops when the request was interrupted.
    /// </summary>
    internal async Task<Errno> Zero(FuseRequest request, ulong offset, ulong length, NbdCommandFlags flags)
    {
        uint payload = (uint)pool.Export.MaximumPayloadBytes;
        ulong step = pool.Export.CanWriteZeroes ? LargestZeroes : 0;
        while (length > 0 && step > 0)
        {
            if (!request.IsPending)
            {
                return Errno.EINTR;
            }

            uint part = (uint)Math.Min(length, step);
            Errno error = await CommandTask.WriteZeroes(pool, offset, part, flags).ConfigureAwait(false);
            switch (error)
            {
                case Errno.None:
                    offset += part;
                    length -= part;
                    break;
                case Errno.EINVAL or Errno.EOVERFLOW when part > payload:
                    step = payload;
                    break;
                case Errno.EOPNOTSUPP:
                    step = 0;
                    break;
                default:
                    return error;
            }
        }

        return await WriteZeroBytes(request, offset, length).ConfigureAwait(false);
    }

    private static unsafe void Reply(FuseRequest request, ExportOperation.Kind kind, Errno outcome, uint length) =>
        ExportOperation.For(request, kind, length).Complete(outcome, request.DataBuffer);

    private static unsafe nint Zeroes() => (nint)s_zeroes.Start;

    private async Task<Errno> WriteZeroBytes(FuseRequest request, ulong offset, ulong length)
    {
        const uint Round = 8 << 20;
        uint payload = (uint)Math.Min(s_zeroes.Length, pool.Export.MaximumPayloadBytes);
        while (length > 0)
        {
            if (!request.IsPending)
            {
                return Errno.EINTR;
            }

            uint round = (uint)Math.Min(length, Round);
            ulong roundOffset = offset;
            Errno error = await InParts(
                round,
                payload,
                (start, part) => CommandTask.Write(pool, roundOffset + start, Zeroes(), part, NbdCommandFlags.None))
                .ConfigureAwait(false);
            if (error != Errno.None)
            {
                return error;
            }

            offset += round;
            length -= round;
        }

        return Errno.None;
    }

    /// <summary>
    /// Splits a range. Ends only when every command that was sent has completed, because they use the request's
    /// memory; the first error wins.
    /// </summary>
    private static async Task<Errno> InParts(uint length, uint largestPart, Func<uint, uint, Task<Errno>> send)
    {
        Errno first = Errno.None;
        Queue<Task<Errno>> inFlight = new();
        uint start = 0;
        while (inFlight.Count > 0 || (start < length && first == Errno.None))
        {
            if (start < length && first == Errno.None && inFlight.Count < CommandsInFlight)
            {
                uint part = Math.Min(largestPart, length - start);
                inFlight.Enqueue(send(start, part));
                start += part;
                continue;
            }

            Errno error = await inFlight.Dequeue().ConfigureAwait(false);
            first = first == Errno.None ? error : first;
        }

        return first;
    }
}
