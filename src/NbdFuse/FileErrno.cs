using Linux;

namespace NbdFuse;

/// <summary>What a program that uses the file is told.</summary>
internal static class FileErrno
{
    /// <summary>
    /// The errno of a failed command. ENOSYS must not get out, because the kernel remembers it for the whole mount;
    /// ENOTCONN would look as if the daemon were dead.
    /// </summary>
    internal static Errno From(Errno outcome) => outcome switch
    {
        Errno.ENOSYS or Errno.ENOTCONN or Errno.EPROTO or Errno.EAGAIN or Errno.EINTR => Errno.EIO,
        _ => outcome,
    };
}
