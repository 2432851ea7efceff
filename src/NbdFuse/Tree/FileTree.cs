using System.Text;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>What names a mount has, and what they stand for. Thread-safe.</summary>
internal abstract class FileTree
{
    /// <summary>Number of the root.</summary>
    protected const ulong RootNumber = 1;

    /// <summary>Smallest block size that statfs(2) tells, in bytes.</summary>
    protected const uint SmallestBlockBytes = 4096;

    /// <summary>Whether <see cref="Refresh"/> has something to do before names are looked up.</summary>
    internal virtual bool IsStale => false;

    /// <summary>How long the kernel may remember names.</summary>
    internal abstract TimeSpan EntryTimeout { get; }

    /// <summary>How long the kernel may remember attributes.</summary>
    internal abstract TimeSpan AttrTimeout { get; }

    /// <summary>Bytes of all exports, for statfs(2).</summary>
    internal abstract ulong SizeBytes { get; }

    /// <summary>
    /// Bytes that are free, for statfs(2): whoever looks whether an image fits on the file before writing it there shall
    /// find that it does. So all of what can be written, whatever is there now.
    /// </summary>
    internal abstract ulong FreeBytes { get; }

    /// <summary>Block size for statfs(2), in bytes.</summary>
    internal virtual uint BlockBytes => SmallestBlockBytes;

    /// <summary>Directories and files.</summary>
    internal abstract int NodeCount { get; }

    /// <summary>The node of a number, or null when there is none any more.</summary>
    internal abstract TreeNode? Find(ulong number);

    /// <summary>Brings the names up to date. Never fails: what cannot be found out stays as it was.</summary>
    internal virtual Task Refresh() => Task.CompletedTask;

    /// <summary>
    /// Paths, beneath the mountpoint, of the files that somebody may have open; "" when the mountpoint is the file.
    /// </summary>
    internal IEnumerable<string> OpenFiles() =>
        Find(RootNumber) is DirectoryNode root ? OpenFiles(root, "") : [""];

    private static IEnumerable<string> OpenFiles(DirectoryNode directory, string path)
    {
        foreach (DirectoryEntry entry in directory.Entries.ToArray())
        {
            string name = path + Encoding.UTF8.GetString(entry.Name);
            IEnumerable<string> files = entry.Node switch
            {
                DirectoryNode below => OpenFiles(below, name + "/"),
                FileNode { IsOpen: true } => [name],
                _ => [],
            };
            foreach (string file in files)
            {
                yield return file;
            }
        }
    }

    /// <summary>The attributes that a directory starts with.</summary>
    protected static FileAttributesInMemory DirectoryAttributes(ExportFileOptions options)
    {
        uint mode = (options.ReadOnly ? 0x16du : 0x1edu) & ~options.Umask;
        return new FileAttributesInMemory((uint)LibC.S_IFDIR | mode, options.UserId, options.GroupId);
    }
}
