using Fuse;
using Linux;

namespace NbdFuse;

/// <summary>An export that is connected to for the life of the mount.</summary>
internal sealed unsafe class WholeExportNode(ulong number, ExportFile file) : FileNode(number)
{
    /// <summary>
    /// Told of each range that is about to change: its first byte and its length in bytes. On a worker thread.
    /// </summary>
    internal Action<ulong, ulong>? Changing { get; init; }

    /// <inheritdoc/>
    internal override ExportFile Export => file;

    /// <inheritdoc/>
    internal override ulong SizeBytes => file.SizeBytes;

    /// <inheritdoc/>
    internal override FuseAttr Attributes()
    {
        FuseAttr attr = file.Attributes();
        attr.Inode = Number;
        return attr;
    }

    /// <inheritdoc/>
    internal override Errno TryChange(in FuseSetAttrIn attr) => file.TryChange(attr);

    /// <inheritdoc/>
    internal override void Open(FuseRequest request, uint flags) => file.Open(request, flags);

    /// <inheritdoc/>
    internal override void Release(FuseRequest request, ulong handle)
    {
        file.EndUse(handle);
        request.ReplyEmpty();
    }

    /// <inheritdoc/>
    internal override void Lseek(FuseRequest request, ulong offset, uint whence) =>
        file.Lseek(request, new FilePart(0, file.SizeBytes, WriteBack), offset, whence);

    /// <inheritdoc/>
    internal override void Read(FuseRequest request, ulong offset, uint size) => file.Read(request, offset, size);

    /// <inheritdoc/>
    internal override void Write(FuseRequest request, ulong offset, byte* payload, uint length, uint openFlags)
    {
        Changing?.Invoke(offset, length);
        file.Write(request, offset, payload, length, openFlags);
    }

    /// <inheritdoc/>
    internal override void Fsync(FuseRequest request) => file.Fsync(request);

    /// <inheritdoc/>
    internal override void Fallocate(FuseRequest request, ulong handle, uint mode, ulong offset, ulong length)
    {
        Changing?.Invoke(offset, length);
        file.Fallocate(request, handle, mode, offset, length);
    }

    /// <inheritdoc/>
    internal override void CopiesTo(in ExportRange range) => Changing?.Invoke(range.Offset, range.Length);
}
