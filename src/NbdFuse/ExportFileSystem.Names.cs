using Fuse;
using Linux;
using Tmds.Linux;

namespace NbdFuse;

/// <content>
/// Names and attributes. They are answered from memory, on the worker; when the names are stale, later and on another
/// thread, since to bring them up to date takes a server.
/// </content>
internal sealed partial class ExportFileSystem
{
    /// <inheritdoc/>
    protected override void Lookup(FuseRequest request, ReadOnlySpan<byte> name)
    {
        if (IsForbidden(request))
        {
            request.ReplyError(Errno.EACCES);
        }
        else if (tree.IsStale)
        {
            LookupAfterRefresh(request, name.ToArray());
        }
        else
        {
            ReplyEntry(request, name);
        }
    }

    /// <inheritdoc/>
    protected override void GetAttr(FuseRequest request)
    {
        if (tree.Find(request.NodeId) is FileNode { Export: ExportFile file } && file.RefusesWriter(request))
        {
            request.ReplyError(Errno.ENOSPC);
        }
        else
        {
            ReplyAttributes(request);
        }
    }

    /// <inheritdoc/>
    protected override void SetAttr(FuseRequest request, in FuseSetAttrIn attr)
    {
        Errno refused = IsForbidden(request)
            ? Errno.EACCES
            : tree.Find(request.NodeId)?.TryChange(attr) ?? Errno.ENOENT;
        if (refused == Errno.None)
        {
            ReplyAttributes(request);
        }
        else
        {
            request.ReplyError(refused);
        }
    }

    /// <inheritdoc/>
    protected override void Readdir(FuseRequest request, ulong handle, ulong offset, uint size)
    {
        if (tree.IsStale && offset == 0)
        {
            ReaddirAfterRefresh(request, size);
        }
        else
        {
            ReplyDirectory(request, offset, size);
        }
    }

    /// <inheritdoc/>
    protected override void Statfs(FuseRequest request)
    {
        uint block = tree.BlockBytes;
        ulong free = tree.FreeBytes / block;
        request.ReplyStatfs(new FuseStatfsOut
        {
            BlockSize = block,
            FragmentSize = block,
            Blocks = (tree.SizeBytes / block) + (tree.SizeBytes % block == 0 ? 0u : 1u),
            BlocksFree = free,
            BlocksAvailable = free,
            Files = (ulong)tree.NodeCount,
            NameLength = 255,
        });
    }

    private static uint Nanoseconds(TimeSpan time) => (uint)(time.Ticks % TimeSpan.TicksPerSecond * 100);

    private async void LookupAfterRefresh(FuseRequest request, byte[] name)
    {
        await tree.Refresh().ConfigureAwait(false);
        ReplyEntry(request, name);
    }

    private async void ReaddirAfterRefresh(FuseRequest request, uint size)
    {
        await tree.Refresh().ConfigureAwait(false);
        ReplyDirectory(request, 0, size);
    }

    private void ReplyEntry(FuseRequest request, ReadOnlySpan<byte> name)
    {
        if (tree.Find(request.NodeId) is not DirectoryNode directory || directory.Find(name) is not TreeNode node)
        {
            request.ReplyError(Errno.ENOENT);
            return;
        }

        request.ReplyEntry(new FuseEntryOut
        {
            NodeId = node.Number,
            EntryValid = (ulong)tree.EntryTimeout.TotalSeconds,
            EntryValidNanoseconds = Nanoseconds(tree.EntryTimeout),
            AttrValid = (ulong)tree.AttrTimeout.TotalSeconds,
            AttrValidNanoseconds = Nanoseconds(tree.AttrTimeout),
            Attr = node.Attributes(),
        });
    }

    private void ReplyAttributes(FuseRequest request)
    {
        if (tree.Find(request.NodeId) is not TreeNode node)
        {
            request.ReplyError(Errno.ENOENT);
            return;
        }

        request.ReplyAttr(new FuseAttrOut
        {
            AttrValid = (ulong)tree.AttrTimeout.TotalSeconds,
            AttrValidNanoseconds = Nanoseconds(tree.AttrTimeout),
            Attr = node.Attributes(),
        });
    }

    private void ReplyDirectory(FuseRequest request, ulong offset, uint size)
    {
        // The cookies of the two dots; an entry's is its node's number after them, which is true also when entries
        // come and go while somebody reads the directory.
        const ulong Dots = 2;
        if (tree.Find(request.NodeId) is not DirectoryNode directory)
        {
            request.ReplyError(Errno.ENOTDIR);
            return;
        }

        FuseDirectoryWriter entries = new(request, size);
        bool hasRoom = (offset >= 1 || entries.TryAdd(directory.Number, 1, (uint)LibC.S_IFDIR, "."u8))
            && (offset >= Dots || entries.TryAdd(directory.Number, Dots, (uint)LibC.S_IFDIR, ".."u8));
        foreach (DirectoryEntry entry in directory.Entries)
        {
            ulong cookie = Dots + entry.Node.Number;
            if (hasRoom && cookie > offset)
            {
                uint type = (uint)(entry.Node is DirectoryNode ? LibC.S_IFDIR : LibC.S_IFREG);
                hasRoom = entries.TryAdd(entry.Node.Number, cookie, type, entry.Name);
            }
        }

        entries.Reply();
    }
}
