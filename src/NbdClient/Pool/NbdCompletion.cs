using Linux;

namespace Nbd;

/// <summary>
/// What happens when a command was answered. The owner of the command derives from it and reuses its objects,
/// so that a command allocates nothing.
/// </summary>
public abstract unsafe class NbdCompletion
{
    /// <summary>
    /// Called exactly once for each accepted command, on the receive thread of its connection, on a thread of the pool when
    /// it took a series of commands, or, that of a WRITE, on the thread that sends it, perhaps before the call that submits
    /// it has returned. It must not block and must not throw.
    /// </summary>
    /// <param name="outcome">How the command ended. EIO also stands for a lost connection.</param>
    /// <param name="data">
    /// For a READ that succeeded, all of its bytes, in the connection's own memory: valid until this method
    /// returns, and only to be read, except that the 16 bytes before <paramref name="data"/> may be overwritten
    /// (a header put there makes one contiguous reply). If the READ has a destination: that. Null otherwise.
    /// </param>
    protected internal abstract void OnCompleted(Errno outcome, byte* data);

    /// <summary>
    /// Called before <see cref="OnCompleted"/> when the server said more about an error than its number; of a series of
    /// commands perhaps several times, and on several threads at once. It must not block and must not throw.
    /// </summary>
    /// <param name="said">That, about one command.</param>
    protected internal virtual void OnServerError(NbdServerError said)
    {
    }

    /// <summary>
    /// Whether nobody waits for the outcome any more. Asked on any thread between two commands of a series
    /// (<see cref="NbdByteAccess"/>), which then ends early, with EINTR.
    /// </summary>
    protected internal virtual bool IsAbandoned => false;

    /// <summary>
    /// The shared memory that the payload of a WRITE starts a page of, if the socket may refer to it instead of copying it.
    /// After the completion the payload is the caller's again; if the WRITE failed, its pages may have been replaced by
    /// others, all zeroes, because the server can still get the old ones. Asked once for each command, by the thread that
    /// submits it.
    /// </summary>
    /// <param name="payload">What the WRITE was submitted with.</param>
    /// <param name="offset">Where in the memory it starts: a multiple of the page size.</param>
    /// <returns>Null: it has to be copied.</returns>
    protected internal virtual SharedMemory? MemoryOf(byte* payload, out long offset)
    {
        offset = 0;
        return null;
    }
}
