using System.Text;
using Fuse;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>Where the file appears.</summary>
/// <param name="Mountpoint">Absolute path of the directory or regular file that is mounted over.</param>
/// <param name="FileName">Name of the file in the directory; null when the mountpoint itself is the file.</param>
internal sealed record MountTarget(string Mountpoint, string? FileName)
{
    private const string DefaultFileName = "nbd";

    /// <summary>Path of the file.</summary>
    internal string FilePath => FileName is null ? Mountpoint : Path.Combine(Mountpoint, FileName);

    /// <summary>
    /// Finds out what MOUNTPOINT[/FILENAME] means. The corpse of a daemon that was killed is unmounted first.
    /// </summary>
    /// <exception cref="UsageException">There is nothing that can be mounted over.</exception>
    internal static MountTarget Resolve(string argument, Action<string> warn)
    {
        string path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(argument));
        string parent = Path.GetDirectoryName(path) ?? "/";
        foreach (string place in (ReadOnlySpan<string>)[parent, path])
        {
            if (FuseMount.IsDeadMount(place))
            {
                warn($"{place}: unmounting what a process that is gone had left there");
                FuseMount.CleanDeadMount(place);
            }
        }

        if (Directory.Exists(path))
        {
            return new MountTarget(path, DefaultFileName);
        }

        if (File.Exists(path))
        {
            return IsRegularFile(path)
                ? new MountTarget(path, null)
                : throw new UsageException($"{argument}: only a directory or a regular file can be mounted over");
        }

        if (!argument.Contains('/', StringComparison.Ordinal))
        {
            // A slip in the name of a directory must not cover the current one.
            throw new UsageException(
                $"{argument}: does not exist; for a file of this name in the current directory write ./{argument}");
        }

        return Directory.Exists(parent) && !argument.EndsWith('/')
            ? new MountTarget(parent, Path.GetFileName(path))
            : throw new UsageException(
                $"{argument}: neither a directory, nor a regular file, nor a name in a directory that exists");
    }

    private static unsafe bool IsRegularFile(string path)
    {
        stat status;
        fixed (byte* terminated = Encoding.UTF8.GetBytes(path + "\0"))
        {
            return LibC.stat(terminated, &status) == 0 && (status.st_mode & LibC.S_IFMT) == LibC.S_IFREG;
        }
    }
}
