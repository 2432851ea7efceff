using Fuse;

namespace NbdFuse;

/// <summary>A file of the mount: all of an export, or a part of it. Each method that takes a request answers it.</summary>
internal abstract unsafe class FileNode(ulong number) : TreeNode(number)
{
    /// <summary>Bytes, as far as they are known.</summary>
    internal abstract ulong SizeBytes { get; }

    /// <summary>The export that it is of; null while that is not connected to.</summary>
    internal abstract ExportFile? Export { get; }

    /// <summary>
    /// Has the kernel send what is dirty in a range of its cache of this file, from one byte to another, and waits for the
    /// answers; false when that is not certain. Null until the mount is up.
    /// </summary>
    internal Func<ulong, ulong, Task<bool>>? WriteBack { get; set; }

    internal abstract void Open(FuseRequest request, uint flags);

    internal abstract void Release(FuseRequest request, ulong handle);

    internal abstract void Read(FuseRequest request, ulong offset, uint size);

    internal abstract void Write(FuseRequest request, ulong offset, byte* payload, uint length, uint openFlags);

    internal abstract void Fsync(FuseRequest request);

    internal abstract void Fallocate(FuseRequest request, uint mode, ulong offset, ulong length);

    internal abstract void Lseek(FuseRequest request, ulong offset, uint whence);
}
