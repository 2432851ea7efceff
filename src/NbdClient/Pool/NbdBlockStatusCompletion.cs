using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// What happens with the answer to a BLOCK_STATUS. Its extents come first, for one meta context after the other in
/// any order, then <see cref="NbdCompletion.OnCompleted"/>, always without data.
/// </summary>
public abstract class NbdBlockStatusCompletion : NbdCompletion
{
    /// <summary>
    /// The contexts that are wanted: bit N stands for number N of <see cref="NbdExport.MetaContexts"/>; 0 for all. A
    /// server that cannot leave out the others (see <see cref="NbdExport.CanFilterMetaContexts"/>) tells about them,
    /// too. Not to be changed while the command is in flight.
    /// </summary>
    public ulong Contexts { get; set; }

    /// <summary>
    /// Called on the receive thread, for each context at least once if the command succeeds; several times for a long
    /// answer, whose parts follow one another. The extents lie end to end from the offset of the command on; their sum
    /// may be shorter or longer than the command asked for, and differ from context to context. At most
    /// <see cref="NbdConnectionPool.MaximumDescriptors"/> come for a context. They are only to be believed once the
    /// command has completed with success. It must not block and must not throw.
    /// </summary>
    /// <param name="context">The context: an index into <see cref="NbdExport.MetaContexts"/>.</param>
    /// <param name="extents">Valid until this method returns. No length is 0, and their sum is below 2^64.</param>
    protected internal abstract void OnExtents(int context, ReadOnlySpan<NbdBlockDescriptor> extents);
}
