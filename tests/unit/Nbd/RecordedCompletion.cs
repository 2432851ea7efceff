using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Remembers how a command ended, and that it ended once.</summary>
internal unsafe class RecordedCompletion(int dataBytes = 0) : NbdCompletion
{
    private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _calls;

    internal byte[]? Data { get; private set; }

    internal int Calls => Volatile.Read(ref _calls);

    internal bool IsCompleted => _outcome.Task.IsCompleted;

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

    protected internal override void OnCompleted(Errno outcome, byte* data)
    {
        Interlocked.Increment(ref _calls);
        if (data is not null)
        {
            Data = new ReadOnlySpan<byte>(data, dataBytes).ToArray();
            // What a caller is allowed to do.
            new Span<byte>(data - 16, 16).Fill(0xee);
        }

        _outcome.TrySetResult(outcome);
    }
}
