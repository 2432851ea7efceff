using Fuse;
using Linux;

namespace NbdFuse;

/// <summary>
/// Answers the kernel: finds the node that a request is about in the <see cref="FileTree"/>. This part is about data;
/// it goes on to the <see cref="FileNode"/>.
/// </summary>
/// <param name="tree">The names.</param>
/// <param name="onlyUserId">Although the kernel lets all users in, only this one and root may pass; null for all.</param>
internal sealed unsafe partial class ExportFileSystem(FileTree tree, uint? onlyUserId) : FuseFileSystem, IDisposable
{
    /// <summary>Paths, beneath the mountpoint, of the files that somebody may have open.</summary>
    internal IEnumerable<string> OpenFiles() => tree.OpenFiles();

    /// <inheritdoc/>
    protected override void Open(FuseRequest request, uint flags)
    {
        if (IsForbidden(request))
        {
            request.ReplyError(Errno.EACCES);
        }
        else if (FindFile(request) is FileNode file)
        {
            file.Open(request, flags);
        }
    }

    /// <inheritdoc/>
    protected override void Release(FuseRequest request, ulong handle)
    {
        if (FindFile(request) is FileNode file)
        {
            file.Release(request, handle);
        }
    }

    /// <inheritdoc/>
    protected override void Read(FuseRequest request, ulong handle, ulong offset, uint size)
    {
        if (FindFile(request) is FileNode file)
        {
            file.Read(request, offset, size);
        }
    }

    /// <inheritdoc/>
    protected override void Write(
        FuseRequest request, ulong handle, ulong offset, byte* payload, uint length, uint openFlags)
    {
        if (FindFile(request) is FileNode file)
        {
            file.Write(request, offset, payload, length, openFlags);
        }
    }

    /// <inheritdoc/>
    protected override void Fsync(FuseRequest request, ulong handle, bool dataOnly)
    {
        if (FindFile(request) is FileNode file)
        {
            file.Fsync(request);
        }
    }

    /// <inheritdoc/>
    protected override void Fallocate(FuseRequest request, ulong handle, uint mode, ulong offset, ulong length)
    {
        if (FindFile(request) is FileNode file)
        {
            file.Fallocate(request, handle, mode, offset, length);
        }
    }

    /// <inheritdoc/>
    protected override void Lseek(FuseRequest request, ulong handle, ulong offset, uint whence)
    {
        if (FindFile(request) is FileNode file)
        {
            file.WriteBack ??= WriteBackOf(file);
            file.Lseek(request, offset, whence);
        }
    }

    /// <summary>The file that a request is about. If there is none, the request is answered.</summary>
    private FileNode? FindFile(FuseRequest request)
    {
        TreeNode? node = tree.Find(request.NodeId);
        if (node is FileNode file)
        {
            return file;
        }

        request.ReplyError(node is null ? Errno.ENOENT : Errno.EISDIR);
        return null;
    }
}
