using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// The two byte streams of a connection in the transmission phase. One thread receives; at the same time one thread
/// at a time sends (the connection's send lock sees to it); <see cref="Shutdown"/> may come from any thread.
/// </summary>
internal abstract unsafe class ConnectionTransport : IDisposable
{
    /// <summary>
    /// How long <see cref="Send"/> waits for room before it takes only a part. A server that reads at all makes room
    /// much sooner, so that a big WRITE costs no thread hop; one that hangs holds a FUSE worker, which has INTERRUPTs
    /// to read, no longer than this.
    /// </summary>
    protected const int SendPatienceMilliseconds = 100;

    private Thread? _receiver;

    /// <summary>Whether <see cref="Send"/> gathers what the receive thread sends until that waits.</summary>
    internal virtual bool GathersSends => false;

    /// <summary>Starts the thread that receives, and runs <paramref name="receive"/> on it. To be called once.</summary>
    internal virtual void Start(Action receive)
    {
        _receiver = new Thread(() => receive()) { Name = "nbd-rx", IsBackground = true };
        _receiver.Start();
    }

    /// <summary>Waits until what was started has returned. Not to be called on its thread.</summary>
    internal virtual void Join() => _receiver?.Join();

    /// <summary>Sends bytes, in order.</summary>
    /// <param name="parts">Where they lie. They may be reused afterwards.</param>
    /// <param name="count">Number of parts.</param>
    /// <param name="mayWait">Whether to wait for room, for at most <see cref="SendPatienceMilliseconds"/>.</param>
    /// <param name="sent">Bytes that were taken: fewer than all, or none, when there was no room.</param>
    /// <returns>None, or why the connection is broken.</returns>
    internal abstract Errno Send(iovec* parts, int count, bool mayWait, out int sent);

    /// <summary>Whether <see cref="SendShared"/> may be called.</summary>
    internal virtual bool SendsShared => false;

    /// <summary>
    /// Sends a header and a payload in shared memory, whose pages it refers to until the server has read them. Does not wait.
    /// </summary>
    /// <param name="parts">The header, which may be reused afterwards, or what is left of it; then the payload.</param>
    /// <param name="memory">The payload's memory.</param>
    /// <param name="offset">Where the payload starts in it.</param>
    /// <param name="sent">As for <see cref="Send"/>.</param>
    /// <returns>None, or why the connection is broken.</returns>
    internal virtual Errno SendShared(iovec* parts, SharedMemory memory, long offset, out int sent) =>
        Send(parts, 2, mayWait: false, out sent);

    /// <summary>Waits until <see cref="Send"/> may take more, or the connection is broken.</summary>
    internal abstract void WaitForRoom();

    /// <summary>Waits for bytes.</summary>
    /// <param name="destination">Where they go.</param>
    /// <param name="length">Most bytes, at least 1.</param>
    /// <param name="all">Whether to wait for all of them, as far as the server sends on.</param>
    /// <param name="received">Bytes that came; 0 when the server closed the connection.</param>
    /// <returns>None, or why the connection is broken.</returns>
    internal abstract Errno Receive(byte* destination, int length, bool all, out int received);

    /// <summary>Receives what is there.</summary>
    /// <param name="destination">Where it goes.</param>
    /// <param name="length">Most bytes, at least 1.</param>
    /// <param name="received">Bytes; 0 when the server closed the connection.</param>
    /// <returns>EAGAIN: nothing, or only <see cref="Receive"/> can tell. Else None, or why the connection is broken.</returns>
    internal virtual Errno TryReceive(byte* destination, int length, out int received)
    {
        received = 0;
        return Errno.EAGAIN;
    }

    /// <summary>The text for an error that another method returned.</summary>
    internal virtual string Describe(Errno errno) => LinuxException.Describe(errno);

    /// <summary>Tells the server that nothing more comes. Never waits long, never fails.</summary>
    internal abstract void EndSending();

    /// <summary>Ends both streams: whoever waits in another method returns soon. Never fails.</summary>
    internal abstract void Shutdown();

    /// <summary>Frees the socket. Nobody may be in another method but <see cref="Shutdown"/>.</summary>
    public abstract void Dispose();
}
