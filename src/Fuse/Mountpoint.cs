using System.Text;
using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>Where to mount.</summary>
/// <param name="Path">Absolute, without symbolic links.</param>
/// <param name="Mode">Its st_mode.</param>
internal readonly unsafe record struct Mountpoint(string Path, uint Mode)
{
    private const uint TypeMask = 0xf000;
    private const uint Directory = 0x4000;
    private const uint RegularFile = 0x8000;

    internal bool IsFile => RootMode == RegularFile;

    /// <summary>The file type bits: the root of the mount must have the same type.</summary>
    internal uint RootMode => Mode & TypeMask;

    /// <exception cref="LinuxException">It does not exist, or it is a dead mount (ENOTCONN).</exception>
    /// <exception cref="FuseException">It is neither a directory nor a regular file.</exception>
    internal static Mountpoint Resolve(string path)
    {
        using SafeFd fd = Open(path);
        stat status;
        if (LibC.fstat(fd.Fd, &status) < 0)
        {
            throw Describe(path, LinuxException.LastErrno);
        }

        Mountpoint result = new(NameOf(fd), (uint)status.st_mode);
        return result.RootMode is Directory or RegularFile
            ? result
            : throw new FuseException($"mountpoint '{path}' is neither a directory nor a regular file");
    }

    /// <summary>
    /// The error of statx(2), 0 for none. Of a FUSE mount it asks the daemon, not what the kernel remembers: a daemon
    /// that was just killed may still be on its way out, and then this waits until it is gone.
    /// </summary>
    internal static Errno Stat(string path)
    {
        fixed (byte* terminated = Terminated(path))
        {
            return FileCalls.StatNow(terminated);
        }
    }

    /// <summary>The absolute path without symbolic links. Works on dead mounts too.</summary>
    internal static string Canonical(string path)
    {
        using SafeFd fd = Open(path);
        return NameOf(fd);
    }

    /// <summary>The bytes of a path with their terminating NUL.</summary>
    internal static byte[] Terminated(string text) => Encoding.UTF8.GetBytes(text + "\0");

    private static SafeFd Open(string path)
    {
        fixed (byte* terminated = Terminated(path))
        {
            int fd = LibC.open(terminated, LibC.O_PATH | LibC.O_CLOEXEC, 0);
            return fd < 0 ? throw Describe(path, LinuxException.LastErrno) : new SafeFd(fd);
        }
    }

    private static LinuxException Describe(string path, Errno error) => new(
        error == Errno.ENOTCONN
            ? $"mountpoint '{path}' is a mount whose daemon is gone (try 'fusermount3 -u {path}')"
            : $"mountpoint '{path}'",
        error);

    /// <summary>The name that the kernel has for an open file.</summary>
    private static string NameOf(SafeFd fd)
    {
        const int MaxPathBytes = 4096;
        byte* name = stackalloc byte[MaxPathBytes];
        fixed (byte* link = Terminated($"/proc/self/fd/{fd.Fd}"))
        {
            int length = (int)(long)LibC.readlink(link, name, MaxPathBytes);
            return length < 0
                ? throw LinuxException.FromLastError("find the absolute path of the mountpoint (is /proc mounted?)")
                : Encoding.UTF8.GetString(name, length);
        }
    }
}
