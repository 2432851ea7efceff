using Linux;
using Nbd;
using Nbd.Protocol;

namespace NbdFuse;

/// <summary>
/// Collects the answer to one BLOCK_STATUS. Nobody looks at it before it has completed; then only the one who asked.
/// </summary>
/// <param name="context">Number of base:allocation among the meta contexts.</param>
/// <param name="start">First byte that is asked about.</param>
/// <param name="size">Size of the export: an extent may reach past the range, but not past the end.</param>
internal sealed unsafe class ExtentAnswer(int context, ulong start, ulong size) : NbdBlockStatusCompletion
{
    private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ulong _end = start;

    /// <summary>How the command ended.</summary>
    internal Task<Errno> Outcome => _outcome.Task;

    /// <summary>End to end from the start on; neighbours differ. As many as a map has room for.</summary>
    internal List<ExtentRun> Runs { get; } = [];

    protected override void OnExtents(int index, ReadOnlySpan<NbdBlockDescriptor> extents)
    {
        if (index != context)
        {
            return;
        }

        foreach (NbdBlockDescriptor extent in extents)
        {
            ulong end = _end + Math.Min(extent.Length, size - _end);
            ExtentKind kind = (extent.Flags & NbdExtent.Zero) != 0 ? ExtentKind.Hole : ExtentKind.Data;
            if (Runs.Count > 0 && Runs[^1].Kind == kind)
            {
                Runs[^1] = Runs[^1] with { End = end };
            }
            else if (Runs.Count < ExtentMap.UsualCapacity / 2)
            {
                Runs.Add(new ExtentRun(_end, end, kind));
            }
            else
            {
                // The rest is asked for again.
                return;
            }

            _end = end;
        }
    }

    protected override void OnCompleted(Errno outcome, byte* data) => _outcome.SetResult(outcome);
}
