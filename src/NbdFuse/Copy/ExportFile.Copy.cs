using Fuse;
using Linux;
using Nbd;

namespace NbdFuse;

/// <content>COPY_FILE_RANGE.</content>
internal sealed partial class ExportFile
{
    /// <summary>The export, byte by byte.</summary>
    internal NbdByteAccess Bytes => _bytes;

    /// <summary>Copies to this export, perhaps not all of it.</summary>
    /// <param name="request">Answered.</param>
    /// <param name="source">Where from; inside its export.</param>
    /// <param name="destination">Where to, here; as long, and without a byte in common.</param>
    /// <param name="mustBeDurable">Before the answer.</param>
    internal void Copy(FuseRequest request, in ExportRange source, in ExportRange destination, bool mustBeDurable)
    {
        _attributes.TouchModified();
        BeginChange(request, ExtentKind.Unknown, destination.Offset, destination.Length);
        ExportOperation operation = ExportOperation.For(request, ExportOperation.Kind.Copy, 0);
        CopyAndAnswer(request, operation, new RangeCopy(request, source, destination), mustBeDurable);
    }

    /// <summary>
    /// What the server says now about a range: where runs of data and of zeroes end. The first run begins at the
    /// offset; what lies behind the last is still to be asked for. All data if it does not say.
    /// </summary>
    internal async Task<IReadOnlyList<(ulong End, bool IsZero)>> AskAllocation(ulong offset, ulong length)
    {
        ulong mask = MinimumBlockBytes - 1;
        ulong start = offset & ~mask;
        ulong end = offset + length;
        if (AllocationIndex is int context and >= 0)
        {
            AllocationQuery query = new(context, start, end);
            Errno error = await query.Run(_pool, ((end + mask) & ~mask) - start).ConfigureAwait(false);
            if (error == Errno.None && query.Runs.Count > 0 && query.Runs[^1].End > offset)
            {
                return query.Runs;
            }
        }

        return [(end, false)];
    }

    private int AllocationIndex
    {
        get
        {
            IReadOnlyList<string> contexts = _pool.Export.MetaContexts;
            for (int i = 0; i < contexts.Count; i++)
            {
                if (contexts[i] == AllocationContext)
                {
                    return i;
                }
            }

            return -1;
        }
    }

    private async void CopyAndAnswer(
        FuseRequest request, ExportOperation operation, RangeCopy copy, bool mustBeDurable)
    {
        Errno error;
        try
        {
            error = await copy.Run().ConfigureAwait(false);
            if (error == Errno.None && mustBeDurable && _pool.Export.CanFlush)
            {
                error = await CopyCommand.Run(request, _pool.Flush).ConfigureAwait(false);
            }
        }
        catch (OutOfMemoryException)
        {
            error = Errno.ENOMEM;
        }

        operation.CompleteCopy(error, copy.Copied);
    }
}
