using Linux;

namespace Fuse;

/// <summary>
/// A fusermount3 that waits for us to end: it unmounts when our end of its socket is closed and the mount is dead.
/// </summary>
internal sealed class FusermountHelper : IDisposable
{
    private readonly SafeFd _socket;
    private readonly ChildProcess _child;

    internal FusermountHelper(SafeFd socket, ChildProcess child)
    {
        _socket = socket;
        _child = child;
    }

    /// <summary>Lets it go and waits for it. The device must be closed by now, or it leaves the mount alone.</summary>
    public void Dispose()
    {
        _socket.Dispose();
        _ = _child.WaitForExit(TimeSpan.FromSeconds(5));
        _child.Dispose();
    }
}
