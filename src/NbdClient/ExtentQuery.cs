using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// One BLOCK_STATUS of <see cref="NbdClient.GetExtentsAsync"/>: keeps what one context says about the range. Nobody
/// looks at it before it has completed; then only the caller does.
/// </summary>
internal sealed unsafe class ExtentQuery(NbdClient client, int context, long offset, long length)
    : NbdBlockStatusCompletion
{
    private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<NbdExtent> _extents = [];
    private readonly long _limit = offset + length;
    private readonly long _started = ClientMetrics.Begin();
    private long _end = offset;

    /// <summary>How the command ended.</summary>
    internal Task<Errno> Outcome => _outcome.Task;

    /// <summary>
    /// After success: at least one extent, end to end from the offset on, neighbours with different flags.
    /// </summary>
    internal List<NbdExtent> Extents => _extents;

    /// <summary>Behind the last extent.</summary>
    internal long End => _end;

    /// <summary>
    /// Cuts what reaches into the middle of a block: the next command has to begin at a block (proto.md, "Size
    /// constraints").
    /// </summary>
    internal void EndAtBlock(int blockBytes)
    {
        _end &= ~(blockBytes - 1L);
        while (_extents.Count > 0 && _extents[^1].Offset >= _end)
        {
            _extents.RemoveAt(_extents.Count - 1);
        }

        if (_extents.Count > 0)
        {
            _extents[^1] = _extents[^1] with { Length = _end - _extents[^1].Offset };
        }
    }

    protected internal override void OnExtents(int index, ReadOnlySpan<NbdBlockDescriptor> extents)
    {
        if (index != context)
        {
            return;
        }

        foreach (NbdBlockDescriptor extent in extents)
        {
            // The last one may reach past the range.
            long bytes = (long)Math.Min(extent.Length, (ulong)(_limit - _end));
            if (_extents.Count > 0 && _extents[^1].Flags == extent.Flags)
            {
                _extents[^1] = _extents[^1] with { Length = _extents[^1].Length + bytes };
            }
            else if (bytes > 0)
            {
                _extents.Add(new NbdExtent(_end, bytes, extent.Flags));
            }

            _end += bytes;
        }
    }

    /// <summary>What the server said about the error, if it did.</summary>
    internal NbdServerError? Said { get; private set; }

    protected internal override void OnServerError(NbdServerError said) => Said = said;

    protected internal override void OnCompleted(Errno outcome, byte* data)
    {
        _outcome.SetResult(outcome);
        ClientMetrics.End(NbdCommandType.BlockStatus, _started, length, outcome);
        client.CommandCompleted();
    }
}
