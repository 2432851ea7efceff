using System.Globalization;
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
        int fd = MountedFile.Open(arguments[1], arguments[2], LibC.O_PATH);
        if (fd < 0)
        {
            return 1;
        }

        fixed (byte* link = MountedFile.Terminated(MountedFile.PathOf(fd)))
        {
            return LibC.truncate(link, long.Parse(arguments[3], CultureInfo.InvariantCulture)) == 0 ? 0 : 1;
        }
    }
}
