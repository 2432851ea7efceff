using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>Opens the FUSE device.</summary>
internal static unsafe class FuseDevice
{
    internal const string Path = "/dev/fuse";

    /// <exception cref="LinuxException">With a hint what to do.</exception>
    internal static SafeFd Open()
    {
        fixed (byte* path = "/dev/fuse\0"u8)
        {
            int fd = LibC.open(path, LibC.O_RDWR | LibC.O_CLOEXEC, 0);
            return fd < 0 ? throw Describe(LinuxException.LastErrno) : new SafeFd(fd);
        }
    }

    internal static LinuxException Describe(Errno error) => new(
        error switch
        {
            Errno.ENOENT or Errno.ENODEV or Errno.ENXIO => $"open {Path} (try 'modprobe fuse')",
            Errno.EACCES or Errno.EPERM => $"open {Path} (try 'chmod 666 {Path}' as root, or run as root)",
            _ => $"open {Path}",
        },
        error);
}
