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

    /// <summary>Block size for statfs(2), in bytes.</summary>
    internal virtual uint BlockBytes => SmallestBlockBytes;

    /// <summary>Directories and files.</summary>
    internal abstract int NodeCount { get; }

    /// <summary>The node of a number, or null when there is none any more.</summary>
    internal abstract TreeNode? Find(ulong number);

    /// <summary>Brings the names up to date. Never fails: what cannot be found out stays as it was.</summary>
    internal virtual Task Refresh() => Task.CompletedTask;

    /// <summary>The attributes that a directory starts with.</summary>
    protected static FileAttributesInMemory DirectoryAttributes(ExportFileOptions options)
    {
        uint mode = (options.ReadOnly ? 0x16du : 0x1edu) & ~options.Umask;
        return new FileAttributesInMemory((uint)LibC.S_IFDIR | mode, options.UserId, options.GroupId);
    }
}
