using System.Text;
using Fuse;
using Linux;

namespace NbdFuse;

/// <summary>A directory. Its entries are replaced as a whole.</summary>
internal sealed class DirectoryNode(ulong number, FileAttributesInMemory attributes) : TreeNode(number)
{
    private DirectoryEntry[] _entries = [];

    /// <summary>In the order of the nodes' numbers, so that a listing can go on where it stopped.</summary>
    internal ReadOnlySpan<DirectoryEntry> Entries => Volatile.Read(ref _entries);

    internal void SetEntries(IEnumerable<(string Name, TreeNode Node)> entries) => Volatile.Write(
        ref _entries,
        [.. entries.Select(entry => new DirectoryEntry(Encoding.UTF8.GetBytes(entry.Name), entry.Node))
            .OrderBy(entry => entry.Node.Number)]);

    /// <summary>The node of a name, or null.</summary>
    internal TreeNode? Find(ReadOnlySpan<byte> name)
    {
        foreach (DirectoryEntry entry in Entries)
        {
            if (name.SequenceEqual(entry.Name))
            {
                return entry.Node;
            }
        }

        return null;
    }

    /// <inheritdoc/>
    internal override FuseAttr Attributes()
    {
        FuseAttr attr = new() { Inode = Number, LinkCount = 2, BlockSize = 4096 };
        attributes.CopyTo(ref attr);
        return attr;
    }

    /// <inheritdoc/>
    internal override Errno TryChange(in FuseSetAttrIn attr)
    {
        if (attr.Valid.HasFlag(FuseSetAttrValid.Size))
        {
            return Errno.EISDIR;
        }

        attributes.Change(attr);
        return Errno.None;
    }
}
