using System.Globalization;
using System.Text;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>A file of our mount, opened by a process that is not the daemon.</summary>
internal static unsafe class MountedFile
{
    /// <summary>Opens it.</summary>
    /// <param name="path">Where it should be.</param>
    /// <param name="device">"MAJOR:MINOR" of the mount: nothing else is opened.</param>
    /// <param name="flags">O_* bits.</param>
    /// <returns>A descriptor; -1 if it cannot be opened or is another file.</returns>
    internal static int Open(string path, string device, int flags)
    {
        // The descriptor holds the file while its device is looked at; one of O_PATH opens nothing that has an effect.
        int found;
        fixed (byte* name = Terminated(path))
        {
            found = LibC.open(name, LibC.O_PATH | LibC.O_CLOEXEC | LibC.O_NOFOLLOW, 0);
        }

        stat status;
        bool isOurs = found >= 0 && LibC.fstat(found, &status) == 0 && DeviceText(status) == device;
        int opened = -1;
        if (isOurs)
        {
            fixed (byte* link = Terminated(PathOf(found)))
            {
                opened = (flags & LibC.O_PATH) != 0 ? found : LibC.open(link, flags | LibC.O_CLOEXEC, 0);
            }
        }

        if (found >= 0 && opened != found)
        {
            _ = LibC.close(found);
        }

        return opened;
    }

    /// <summary>A path of what a descriptor has open, valid as long as that.</summary>
    internal static string PathOf(int fd) => string.Create(CultureInfo.InvariantCulture, $"/proc/self/fd/{fd}");

    internal static byte[] Terminated(string text) => Encoding.UTF8.GetBytes(text + "\0");

    private static string DeviceText(in stat status)
    {
        ulong device = (ulong)status.st_dev;
        ulong major = ((device >> 8) & 0xfff) | ((device >> 32) & ~0xffful);
        ulong minor = (device & 0xff) | ((device >> 12) & ~0xfful);
        return string.Create(CultureInfo.InvariantCulture, $"{major}:{minor}");
    }
}
