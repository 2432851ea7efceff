using System.Globalization;
using System.Text;
using Linux;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// Brings the kernel's idea of a file's size back to the truth: only truncate(2) does that with a writeback cache. It
/// waits for the inode, which a request of ours may have locked, so a process of its own calls it: this program with
/// a first argument that is not for users.
/// </summary>
internal static unsafe class SizeCorrection
{
    private const string Verb = "--correct-size-of-mounted-file";

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    /// <summary>Whether this process was started to do it.</summary>
    internal static bool IsAskedFor(string[] arguments) => arguments is [Verb, _, _, _];

    /// <summary>In the daemon: starts the process and waits for it, for a few seconds at most.</summary>
    /// <param name="path">The file.</param>
    /// <param name="device">"MAJOR:MINOR" of the mount: whatever else stands at the path is left alone.</param>
    /// <param name="size">In bytes.</param>
    internal static void Start(string path, string device, ulong size)
    {
        try
        {
            using ChildProcess child = ChildProcess.Spawn(
                ["/proc/self/exe", Verb, path, device, size.ToString(CultureInfo.InvariantCulture)],
                new ChildProcessOptions());
            if (!child.WaitForExit(s_patience))
            {
                child.Kill(LibC.SIGKILL);
            }
        }
        catch (LinuxException)
        {
            // The next truncate(2) or open(2) with O_TRUNC by anybody does it as well.
        }
    }

    /// <summary>In the process of its own.</summary>
    /// <returns>The exit status.</returns>
    internal static int Run(string[] arguments)
    {
        // The descriptor holds the file while its device is looked at.
        int fd;
        fixed (byte* path = Terminated(arguments[1]))
        {
            fd = LibC.open(path, LibC.O_PATH | LibC.O_CLOEXEC | LibC.O_NOFOLLOW, 0);
        }

        stat status;
        if (fd < 0 || LibC.fstat(fd, &status) < 0 || DeviceText(status) != arguments[2])
        {
            return 1;
        }

        fixed (byte* link = Terminated($"/proc/self/fd/{fd}"))
        {
            return LibC.truncate(link, long.Parse(arguments[3], CultureInfo.InvariantCulture)) == 0 ? 0 : 1;
        }
    }

    private static string DeviceText(in stat status)
    {
        ulong device = (ulong)status.st_dev;
        ulong major = ((device >> 8) & 0xfff) | ((device >> 32) & ~0xffful);
        ulong minor = (device & 0xff) | ((device >> 12) & ~0xfful);
        return string.Create(CultureInfo.InvariantCulture, $"{major}:{minor}");
    }

    private static byte[] Terminated(string text) => Encoding.UTF8.GetBytes(text + "\0");
}
