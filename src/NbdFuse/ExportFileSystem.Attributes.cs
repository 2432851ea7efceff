using System.Collections.Concurrent;
using System.Text;
using Fuse;
using Linux;

namespace NbdFuse;

/// <content>Extended attributes, who may pass, and what is to be done when the mount is up.</content>
internal sealed unsafe partial class ExportFileSystem
{
    private const ulong RootNumber = 1;
    private const ulong OnlyFileNumber = 2;

    // False for a kernel that would ask for one of them before each write, without HANDLE_KILLPRIV_V2: it is told that
    // there are none.
    private bool _hasXattrs;

    // By node.
    private readonly ConcurrentDictionary<ulong, WriteBackProcess> _writeBacks = new();
    private string? _mountpoint;
    private string? _device;

    /// <summary>To be called once the kernel has agreed on the session, before requests are served.</summary>
    /// <param name="session">It.</param>
    /// <param name="path">Where the file is, if there is one for the whole mount.</param>
    /// <param name="mountpoint">Where the root is.</param>
    /// <param name="device">"MAJOR:MINOR" of the mount; null if it was handed over.</param>
    internal void Attach(FuseSession session, string path, string mountpoint, string? device)
    {
        _canCopy = session.Limits.Minor >= FirstMinorWithTrueCopies;
        (_mountpoint, _device) = (mountpoint, device);
        _hasXattrs = session.Limits.Flags.HasFlag(FuseInitFlags.HandleKillPrivV2);
        bool isFileMount = tree.Find(RootNumber) is FileNode;
        if (tree.Find(isFileMount ? RootNumber : OnlyFileNumber) is WholeExportNode node)
        {
            node.Export.Kernel = new KernelCache(session, node.Number, path, device);
            if (isFileMount && session.Limits.Flags.HasFlag(FuseInitFlags.WritebackCache))
            {
                // With a writeback cache the kernel believes nobody but itself, and makes a root with size 0.
                _ = session.NotifySize(node.Number, (long)node.SizeBytes);
            }
        }
    }

    /// <inheritdoc/>
    protected override void Opendir(FuseRequest request, uint flags)
    {
        if (IsForbidden(request))
        {
            request.ReplyError(Errno.EACCES);
        }
        else
        {
            request.ReplyOpen(0, FuseOpenFlags.None);
        }
    }

    /// <inheritdoc/>
    protected override void Flush(FuseRequest request, ulong handle)
    {
        if (tree.Find(request.NodeId) is FileNode { Export: ExportFile file })
        {
            file.Flush(request);
        }
        else
        {
            request.ReplyEmpty();
        }
    }

    /// <inheritdoc/>
    protected override void GetXattr(FuseRequest request, ReadOnlySpan<byte> name, uint size)
    {
        if (!_hasXattrs)
        {
            request.ReplyError(Errno.ENOSYS);
        }
        else if (!IsForbidden(request) && tree.Find(request.NodeId) is FileNode { Export: ExportFile file })
        {
            file.GetXattr(request, name, size);
        }
        else
        {
            request.ReplyError(Errno.ENODATA);
        }
    }

    /// <inheritdoc/>
    protected override void ListXattr(FuseRequest request, uint size)
    {
        if (!_hasXattrs)
        {
            request.ReplyError(Errno.ENOSYS);
        }
        else if (!IsForbidden(request) && tree.Find(request.NodeId) is FileNode { Export: ExportFile file })
        {
            file.ListXattr(request, size);
        }
        else if (size == 0)
        {
            request.ReplyXattrSize(0);
        }
        else
        {
            request.ReplyEmpty();
        }
    }

    /// <inheritdoc/>
    protected override void SetXattr(
        FuseRequest request, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, uint flags) =>
        ExportFile.ChangeXattr(request, name);

    /// <inheritdoc/>
    protected override void RemoveXattr(FuseRequest request, ReadOnlySpan<byte> name) =>
        ExportFile.ChangeXattr(request, name);

    /// <summary>Ends the processes that have files written back.</summary>
    public void Dispose()
    {
        foreach (WriteBackProcess process in _writeBacks.Values)
        {
            process.Dispose();
        }
    }

    private Func<ulong, ulong, Task<bool>>? WriteBackOf(FileNode file)
    {
        string? path = file.Number == RootNumber ? "" : PathOf(tree.Find(RootNumber) as DirectoryNode, file);
        return path is null || _mountpoint is null || _device is null
            ? null
            : _writeBacks.GetOrAdd(file.Number, _ => new WriteBackProcess(_mountpoint + path, _device)).Run;
    }

    private static string? PathOf(DirectoryNode? directory, FileNode file)
    {
        foreach (DirectoryEntry entry in directory is null ? [] : directory.Entries)
        {
            string? rest = entry.Node == file ? "" : entry.Node is DirectoryNode below ? PathOf(below, file) : null;
            if (rest is not null)
            {
                return $"/{Encoding.UTF8.GetString(entry.Name)}{rest}";
            }
        }

        return null;
    }

    // -o allow_root. What is open stays open, and what the kernel remembers it tells without asking.
    private bool IsForbidden(FuseRequest request) =>
        onlyUserId is uint user && request.UserId != user && request.UserId != 0;
}
