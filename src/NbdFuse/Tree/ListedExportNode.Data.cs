using Fuse;
using Linux;

namespace NbdFuse;

/// <content>Data goes on to the file of the connected export.</content>
internal sealed unsafe partial class ListedExportNode
{
    /// <inheritdoc/>
    internal override void Read(FuseRequest request, ulong offset, uint size)
    {
        if (FindFile(request) is ExportFile file)
        {
            file.Read(request, offset, size);
        }
    }

    /// <inheritdoc/>
    internal override void Write(FuseRequest request, ulong offset, byte* payload, uint length, uint openFlags)
    {
        if (FindFile(request) is ExportFile file)
        {
            _attributes.TouchModified();
            file.Write(request, offset, payload, length, openFlags);
        }
    }

    /// <inheritdoc/>
    internal override void Fsync(FuseRequest request) => FindFile(request)?.Fsync(request);

    /// <inheritdoc/>
    internal override void Fallocate(FuseRequest request, ulong handle, uint mode, ulong offset, ulong length)
    {
        if (FindFile(request) is ExportFile file)
        {
            _attributes.TouchModified();
            file.Fallocate(request, handle, mode, offset, length);
        }
    }

    /// <inheritdoc/>
    internal override void CopiesTo(in ExportRange range) => _attributes.TouchModified();

    internal override void Lseek(FuseRequest request, ulong offset, uint whence)
    {
        if (FindFile(request) is ExportFile file)
        {
            file.Lseek(request, new FilePart(0, file.SizeBytes, WriteBack), offset, whence);
        }
    }

    /// <summary>The file, which is there between OPEN and RELEASE. If it is not, the request is answered.</summary>
    private ExportFile? FindFile(FuseRequest request)
    {
        ExportFile? file = Volatile.Read(ref _file);
        if (file is null)
        {
            request.ReplyError(Errno.EBADF);
        }

        return file;
    }
}
