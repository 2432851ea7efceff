using Linux;

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
}
