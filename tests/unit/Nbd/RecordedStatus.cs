using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Remembers the answer to a BLOCK_STATUS.</summary>
internal sealed unsafe class RecordedStatus : NbdBlockStatusCompletion
{
    private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<(int Context, NbdBlockDescriptor Extent)> _extents = [];
    private int _calls;

    internal int Calls => Volatile.Read(ref _calls);

    /// <summary>Waits for the end and says how it was.</summary>
    internal Errno Outcome
    {
        get
        {
            Assert.True(_outcome.Task.Wait(FakeNbdServer.TimeLimit), "the command did not complete");
            Assert.Equal(1, Calls);
            return _outcome.Task.Result;
        }
    }

    /// <summary>Length and flags of the extents of a context. To be called after <see cref="Outcome"/>.</summary>
    internal (ulong Length, ulong Flags)[] Of(int context) =>
        [.. _extents.Where(e => e.Context == context).Select(e => (e.Extent.Length, e.Extent.Flags))];

    protected internal override void OnExtents(int context, ReadOnlySpan<NbdBlockDescriptor> extents)
    {
        foreach (NbdBlockDescriptor extent in extents)
        {
            _extents.Add((context, extent));
        }
    }

    protected internal override void OnCompleted(Errno outcome, byte* data)
    {
        Assert.True(data is null);
        Interlocked.Increment(ref _calls);
        _outcome.TrySetResult(outcome);
    }
}
