using System.Globalization;
using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>Mounting with the rights of this process.</summary>
internal static unsafe class MountSystemCall
{
    private const uint ReadOnly = 1;

    /// <returns>The device of the new mount.</returns>
    /// <exception cref="LinuxException">EPERM or EACCES without the right to mount, and others.</exception>
    internal static SafeFd Mount(in Mountpoint target, FuseMountOptions options)
    {
        SafeFd device = FuseDevice.Open();
        string data = string.Create(
            CultureInfo.InvariantCulture,
            $"fd={device.Fd},rootmode={Convert.ToString(target.RootMode, 8)},"
            + $"user_id={(uint)LibC.getuid()},group_id={(uint)LibC.getgid()}{SharedOptions(options)}");
        uint flags = (uint)options.Flags | (options.ReadOnly ? ReadOnly : 0);
        fixed (byte* source = Fuse.Mountpoint.Terminated(options.Source))
        fixed (byte* path = Fuse.Mountpoint.Terminated(target.Path))
        fixed (byte* type = Fuse.Mountpoint.Terminated("fuse." + options.Subtype))
        fixed (byte* text = Fuse.Mountpoint.Terminated(data))
        {
            if (LibC.mount(source, path, type, flags, text) == 0)
            {
                return device;
            }
        }

        LinuxException exception = LinuxException.FromLastError($"mount on '{target.Path}' with {data}");
        device.Dispose();
        throw exception;
    }

    /// <summary>Unmounts the topmost mount of a path.</summary>
    internal static Errno Unmount(string mountpoint, bool lazy)
    {
        int flags = LibC.UMOUNT_NOFOLLOW | (lazy ? LibC.MNT_DETACH : 0);
        fixed (byte* path = Fuse.Mountpoint.Terminated(mountpoint))
        {
            return LibC.umount2(path, flags) < 0 ? LinuxException.LastErrno : Errno.None;
        }
    }

    /// <summary>The options that mount(2) and fusermount3 spell alike, each after a comma.</summary>
    internal static string SharedOptions(FuseMountOptions options) =>
        (options.MaxReadBytes == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $",max_read={options.MaxReadBytes}"))
        + (options.DefaultPermissions ? ",default_permissions" : "")
        + (options.AllowOther ? ",allow_other" : "");
}
