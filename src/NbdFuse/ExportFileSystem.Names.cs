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
    // A stat(2) waits so long for st_blocks (a timer takes up to twice that). What is not known by then the kernel asks
    // for again soon.
    private static readonly TimeSpan s_mappingTime = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan s_unsettledTime = TimeSpan.FromMilliseconds(10);

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
        ExportFile? file = (tree.Find(request.NodeId) as FileNode)?.Export;
        if (file?.RefusesWriter(request) == true)
        {
            request.ReplyError(Errno.ENOSPC);
        }
        else if (file is not null && !request.IsForOpenFile && file.MapHoles() is { IsCompleted: false } mapping
            && file.HasBegunToMap)
        {
            ReplyAttributesSoon(request, mapping);
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

    /// <summary>Answers when all holes are known, or a little later without them.</summary>
    private async void ReplyAttributesSoon(FuseRequest request, Task mapping)
    {
        _ = await Task.WhenAny(mapping, Task.Delay(s_mappingTime)).ConfigureAwait(false);
        ReplyAttributes(request);
    }

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

        // With attributes that are no longer valid the kernel asks for them, which can wait for a moment.
        bool isUnsettled = (node as FileNode)?.Export?.MapHoles().IsCompleted == false;
        TimeSpan attrTimeout = isUnsettled ? TimeSpan.Zero : AttrTimeout(node);
        request.ReplyEntry(new FuseEntryOut
        {
            NodeId = node.Number,
            EntryValid = (ulong)tree.EntryTimeout.TotalSeconds,
            EntryValidNanoseconds = Nanoseconds(tree.EntryTimeout),
            AttrValid = (ulong)attrTimeout.TotalSeconds,
            AttrValidNanoseconds = Nanoseconds(attrTimeout),
            Attr = node.Attributes(),
        });
    }

    private TimeSpan AttrTimeout(TreeNode node) =>
        node is FileNode { Export: ExportFile file } && file.LongestAttrTimeout < tree.AttrTimeout
            ? file.LongestAttrTimeout
            : tree.AttrTimeout;

    private void ReplyAttributes(FuseRequest request)
    {
        if (tree.Find(request.NodeId) is not TreeNode node)
        {
            request.ReplyError(Errno.ENOENT);
            return;
        }

        bool isUnsettled = (node as FileNode)?.Export?.IsMappingHoles == true;
        TimeSpan timeout = isUnsettled ? s_unsettledTime : AttrTimeout(node);
        request.ReplyAttr(new FuseAttrOut
        {
            AttrValid = (ulong)timeout.TotalSeconds,
            AttrValidNanoseconds = Nanoseconds(timeout),
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
