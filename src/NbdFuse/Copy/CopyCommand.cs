using Fuse;
using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>One read or change of a copy, as a task. Whoever awaits it goes on on the thread pool.</summary>
internal sealed unsafe class CopyCommand : NbdCompletion
{
    private readonly FuseRequest _request;
    private readonly TaskCompletionSource<Errno> _outcome = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private CopyCommand(FuseRequest request)
    {
        _request = request;
    }

    /// <inheritdoc/>
    protected override bool IsAbandoned => !_request.IsPending;

    /// <summary>Begins it. Memory that it uses must stay until the task has ended.</summary>
    /// <param name="request">Whose copy it is; not answered before the task has ended.</param>
    /// <param name="submit">Sends it, and says whether it was accepted.</param>
    internal static Task<Errno> Run(FuseRequest request, Func<NbdCompletion, Errno> submit)
    {
        CopyCommand command = new(request);
        Errno refused = submit(command);
        return refused == Errno.None ? command._outcome.Task : Task.FromResult(refused);
    }

    /// <inheritdoc/>
    protected override void OnCompleted(Errno outcome, byte* data) => _outcome.SetResult(outcome);
}
