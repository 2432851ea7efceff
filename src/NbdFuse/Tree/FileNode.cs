using Fuse;

namespace NbdFuse;

/// <summary>A file of the mount: all of an export, or a part of it. Each method that takes a request answers it.</summary>
internal abstract unsafe class FileNode(ulong number) : TreeNode(number)
{
    /// <summary>Bytes, as far as they are known.</summary>
    internal abstract ulong SizeBytes { get; }

    /// <summary>The export that it is of; null while that is not connected to.</summary>
    internal abstract ExportFile? Export { get; }

    /// <summary>Whether somebody may have it open.</summary>
    internal virtual bool IsOpen => true;

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

    internal abstract void Fallocate(FuseRequest request, ulong handle, uint mode, ulong offset, ulong length);

    /// <summary>Where a range lies, as far as it is inside the file. Only while the export is connected to.</summary>
    internal virtual ExportRange Locate(ulong offset, ulong length) =>
        new(Export!, offset, offset < SizeBytes ? Math.Min(length, SizeBytes - offset) : 0);

    /// <summary>A copy is about to change a range of the file. On a worker thread.</summary>
    internal abstract void CopiesTo(in ExportRange range);

    internal abstract void Lseek(FuseRequest request, ulong offset, uint whence);
}
