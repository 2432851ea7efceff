using Fuse;

namespace NbdFuse;

/// <summary>A file of the mount: all of an export, or a part of it. Each method that takes a request answers it.</summary>
internal abstract unsafe class FileNode(ulong number) : TreeNode(number)
{
    /// <summary>Bytes, as far as they are known.</summary>
    internal abstract ulong SizeBytes { get; }

    /// <summary>The export that it is of; null while that is not connected to.</summary>
    internal abstract ExportFile? Export { get; }

    internal abstract void Open(FuseRequest request, uint flags);

    internal virtual void Release(FuseRequest request) => request.ReplyEmpty();

    internal abstract void Read(FuseRequest request, ulong offset, uint size);

    internal abstract void Write(FuseRequest request, ulong offset, byte* payload, uint length, uint openFlags);

    internal abstract void Fsync(FuseRequest request);

    internal abstract void Fallocate(FuseRequest request, uint mode, ulong offset, ulong length);
}
