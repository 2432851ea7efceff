using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>What a client is told about an exception of a backend.</summary>
internal static class BackendError
{
    // .NET puts the errno of a failed system call there as it is; its own codes are negative.
    private const int MaximumErrno = 4095;

    /// <summary>The NBD error number.</summary>
    /// <param name="exception">What the backend threw.</param>
    /// <param name="isFastZero">Whether "would be slow" is an answer.</param>
    public static uint From(Exception exception, bool isFastZero) => exception switch
    {
        NotSupportedException when isFastZero => NbdError.FromErrno(Errno.EOPNOTSUPP),
        NotSupportedException => NbdError.FromErrno(Errno.EINVAL),
        LinuxException { Errno: Errno.EOPNOTSUPP } when isFastZero => NbdError.FromErrno(Errno.EOPNOTSUPP),
        LinuxException linux => FromErrno(linux.Errno),
        IOException { HResult: > 0 and <= MaximumErrno } io => FromErrno((Errno)io.HResult),
        UnauthorizedAccessException => NbdError.FromErrno(Errno.EPERM),
        OutOfMemoryException => NbdError.FromErrno(Errno.ENOMEM),
        _ => NbdError.FromErrno(Errno.EIO),
    };

    // ENOTSUP, EOVERFLOW and ESHUTDOWN have meanings of their own on the wire.
    private static uint FromErrno(Errno errno) => errno is Errno.EOPNOTSUPP or Errno.EOVERFLOW or Errno.ESHUTDOWN
        ? NbdError.FromErrno(Errno.EIO)
        : NbdError.FromErrno(errno);
}
