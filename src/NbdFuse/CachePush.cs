using Linux;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// Has the kernel send what it keeps of files that programs changed: open(2) and close(2) do that, for all programs and
/// also for what was stored through shared mappings. They wait for the daemon, unkillably, so a process of its own calls
/// them: this program with a first argument that is not for users.
/// </summary>
internal static class CachePush
{
    private const string Verb = "--push-mounted-files";

    // What fits into an argument list whatever the names are.
    private const int MostFiles = 256;

    /// <summary>Whether this process was started to do it.</summary>
    internal static bool IsAskedFor(string[] arguments) => arguments is [Verb, _, ..];

    /// <summary>In the daemon: starts the process and waits for it.</summary>
    /// <param name="mountpoint">Where the mount is.</param>
    /// <param name="files">Paths beneath it.</param>
    /// <param name="device">"MAJOR:MINOR" of the mount.</param>
    /// <param name="patience">How long. A process that takes longer ends with the mount.</param>
    /// <returns>Whether all that was changed before is at the server.</returns>
    internal static bool Start(string mountpoint, IEnumerable<string> files, string device, TimeSpan patience)
    {
        string[] paths = [.. files.Select(file => file.Length == 0 ? mountpoint : Path.Combine(mountpoint, file))];
        try
        {
            ChildProcess child = ChildProcess.Spawn(
                ["/proc/self/exe", Verb, device, .. paths.Take(MostFiles)], new ChildProcessOptions());
            if (!child.WaitForExit(patience))
            {
                return false;
            }

            child.Dispose();
            return child.ExitStatus == 0 && paths.Length <= MostFiles;
        }
        catch (LinuxException)
        {
            return false;
        }
    }

    /// <summary>In the process of its own.</summary>
    /// <returns>The exit status.</returns>
    internal static int Run(string[] arguments)
    {
        int failures = 0;
        foreach (string path in arguments.AsSpan(2))
        {
            failures += Push(path, arguments[1]) ? 0 : 1;
        }

        return failures == 0 ? 0 : 1;
    }

    private static bool Push(string path, string device)
    {
        // Who may not write to it may still read it.
        int fd = MountedFile.Open(path, device, LibC.O_WRONLY);
        fd = fd >= 0 ? fd : MountedFile.Open(path, device, LibC.O_RDONLY);
        return fd >= 0 && LibC.close(fd) == 0;
    }
}
