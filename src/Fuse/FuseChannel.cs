using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>
/// Where a request came from, and so the only place where its reply may go: the kernel keeps a table of running
/// requests for each of them.
/// </summary>
internal abstract unsafe class FuseChannel
{
    /// <summary>
    /// Sends a reply: <paramref name="length"/> bytes, the out-header and then its body, one after the other.
    /// Thread-safe. The memory is free for other use afterwards.
    /// </summary>
    /// <returns>ENOENT when nobody waits for that reply any more.</returns>
    internal abstract Errno Send(byte* frame, uint length);

    /// <summary>
    /// Sends an error in the place of the reply, while the file system may still use the request's memory. Otherwise
    /// as <see cref="Send(byte*, uint)"/>.
    /// </summary>
    internal virtual Errno SendInstead(byte* frame, uint length) => Send(frame, length);

    /// <summary>
    /// The request object of an answered request stays with the channel, for its next request. Not after
    /// <see cref="SendInstead"/>.
    /// </summary>
    internal virtual bool KeepsRequests => false;

    /// <summary>Sends a reply that lies in parts. Otherwise as <see cref="Send(byte*, uint)"/>.</summary>
    /// <param name="parts">The first one is the out-header.</param>
    /// <param name="count">Number of parts.</param>
    internal abstract Errno Send(iovec* parts, int count);
}
