using Linux;
using Nbd;
using Nbd.Protocol;

namespace NbdFuse;

/// <summary>
/// One BLOCK_STATUS about base:allocation, asked for what lies at an offset now: the runs of data and of zeroes, end to
/// end. Nobody looks at them before it has completed; then only its owner does.
/// </summary>
/// <param name="context">The number of the context.</param>
/// <param name="offset">First byte.</param>
/// <param name="limit">First byte that does not matter.</param>
internal sealed unsafe class AllocationQuery(int context, ulong offset, ulong limit) : NbdBlockStatusCompletion
{
    // Shorter zeroes between data are read and written with it: fewer commands. qcow2 has clusters of this size.
    private const ulong ShortestZeroes = 64 << 10;

    // What is behind them is asked for later.
    private const int MostRuns = 1024;

    private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<(ulong End, bool IsZero)> _runs = [];
    private ulong _end = offset;

    /// <summary>The end of each run, in order; the first one begins at the offset.</summary>
    internal IReadOnlyList<(ulong End, bool IsZero)> Runs => _runs;

    /// <summary>Asks, once.</summary>
    internal Task<Errno> Run(NbdConnectionPool pool, ulong length)
    {
        Contexts = 1UL << context;
        Errno refused = pool.BlockStatus(_end, length, NbdCommandFlags.None, this);
        return refused == Errno.None ? _outcome.Task : Task.FromResult(refused);
    }

    protected override void OnExtents(int index, ReadOnlySpan<NbdBlockDescriptor> extents)
    {
        if (index != context)
        {
            return;
        }

        foreach (NbdBlockDescriptor extent in extents)
        {
            ulong length = Math.Min(extent.Length, limit - _end);
            bool isZero = (extent.Flags & NbdExtent.Zero) != 0 && length >= ShortestZeroes;
            if (length == 0)
            {
                return;
            }

            if (_runs.Count > 0 && _runs[^1].IsZero == isZero)
            {
                _runs.RemoveAt(_runs.Count - 1);
            }
            else if (_runs.Count == MostRuns)
            {
                return;
            }

            _end += length;
            _runs.Add((_end, isZero));
        }
    }

    protected override void OnCompleted(Errno outcome, byte* data) => _outcome.SetResult(outcome);
}
