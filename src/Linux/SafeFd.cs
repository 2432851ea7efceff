using System.Runtime.InteropServices;
using Tmds.Linux;

namespace Linux;

/// <summary>
/// Owns a file descriptor. Thread-safe: a descriptor is closed when it was disposed and the last
/// <see cref="SafeHandle.DangerousAddRef"/> was released, so its number cannot be reused under a running call.
/// </summary>
public sealed class SafeFd : SafeHandle
{
    /// <summary>Takes ownership of <paramref name="fd"/>.</summary>
    public SafeFd(int fd)
        : base(-1, ownsHandle: true)
    {
        SetHandle(fd);
    }

    /// <summary>Descriptor 0 is valid on Unix.</summary>
    public override bool IsInvalid => (int)handle < 0;

    /// <summary>
    /// The number itself. Only for callers that keep this object undisposed while they use it.
    /// </summary>
    public int Fd => (int)handle;

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        // close(2) releases the number whatever it returns; a second try could close someone else's file.
        _ = LibC.close((int)handle);
        return true;
    }
}
