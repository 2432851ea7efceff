using System.Runtime.CompilerServices;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>BLOCK_STATUS: what meta contexts say about ranges.</content>
public sealed partial class NbdClient
{
    // Of a compact request. nbdkit 1.32 ends with a failed assertion when 2^32-1 bytes are one extent.
    private const long LongestCompactStatus = 1L << 31;

    /// <summary>Most bytes that a request header can hold, in whole blocks.</summary>
    private long LongestRange =>
        (Export.ExtendedHeaders ? long.MaxValue : uint.MaxValue) & ~(Export.MinimumBlockBytes - 1L);

    /// <summary>
    /// Asks what a meta context says about a range. The extents lie end to end and cover it whole; neighbours differ
    /// in their flags.
    /// </summary>
    /// <param name="offset">First byte, 0 to the size of the export.</param>
    /// <param name="length">Bytes, 0 or more.</param>
    /// <param name="context">
    /// One of <see cref="NbdExport.MetaContexts"/>; see <see cref="NbdClientOptions.MetaContexts"/>.
    /// </param>
    /// <param name="cancellationToken">Ends the wait at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative range.</exception>
    /// <exception cref="NbdException">
    /// EOPNOTSUPP: the export has no such context. EINVAL: past its end. Else what the server said; EIO stands for a
    /// lost connection, too.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public IAsyncEnumerable<NbdExtent> GetExtentsAsync(
        long offset,
        long length,
        string context = "base:allocation",
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        CheckRange(NbdCommandType.BlockStatus, offset, length);
        int index = IndexOfContext(context);
        return EnumerateExtents(offset, length, index, cancellationToken);
    }

    private int IndexOfContext(string context)
    {
        for (int i = 0; i < Export.MetaContexts.Count; i++)
        {
            if (Export.MetaContexts[i] == context)
            {
                return i;
            }
        }

        throw Refused(
            NbdCommandType.BlockStatus,
            $"the export has no meta context '{PrintableText.From(context)}', or it was not asked for when connecting",
            Errno.EOPNOTSUPP);
    }

    private async IAsyncEnumerable<NbdExtent> EnumerateExtents(
        long offset, long length, int context, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        // Whole blocks are asked for.
        long mask = Export.MinimumBlockBytes - 1L;
        long first = offset;
        long end = offset + length;
        offset &= ~mask;
        long limit = Export.ExtendedHeaders ? LongestRange : LongestCompactStatus;
        NbdExtent? last = null;
        while (offset < end)
        {
            long count = Math.Min(((end + mask) & ~mask) - offset, limit);
            ExtentQuery query = new(this, context, offset, count) { Contexts = 1UL << context };
            Errno error = await RunAsync(query, offset, count, cancellationToken).ConfigureAwait(false);
            if (error is Errno.EINVAL or Errno.EOVERFLOW && count > Export.MaximumPayloadBytes)
            {
                // A server may refuse what is longer than a payload (proto.md, "Size constraints").
                limit = Export.MaximumPayloadBytes;
                continue;
            }

            if (error != Errno.None)
            {
                throw Failed(NbdCommandType.BlockStatus, offset, count, error, query.Said);
            }

            query.EndAtBlock(Export.MinimumBlockBytes);
            if (query.End == offset)
            {
                throw Refused(
                    NbdCommandType.BlockStatus,
                    $"the server told about less than a block of {Export.MinimumBlockBytes} bytes at offset {offset}",
                    Errno.EPROTO);
            }

            foreach (NbdExtent told in query.Extents)
            {
                long start = Math.Max(told.Offset, first);
                NbdExtent extent = told with { Offset = start, Length = Math.Min(told.End, end) - start };
                if (extent.Length <= 0)
                {
                    continue;
                }

                if (last is { } before && before.Flags != extent.Flags)
                {
                    yield return before;
                    last = extent;
                }
                else
                {
                    last = last is { } same ? same with { Length = same.Length + extent.Length } : extent;
                }
            }

            offset = query.End;
        }

        if (last is { } final)
        {
            yield return final;
        }
    }

    private async Task<Errno> RunAsync(
        ExtentQuery query, long offset, long length, CancellationToken cancellationToken)
    {
        BeginCommand();
        Errno error = _pool.BlockStatus((ulong)offset, (ulong)length, NbdCommandFlags.None, query);
        if (error != Errno.None)
        {
            CommandCompleted();
            return error;
        }

        try
        {
            return await query.Outcome.WaitAsync(CommandTimeout, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw TimedOut(NbdCommandType.BlockStatus, offset, length);
        }
    }
}
