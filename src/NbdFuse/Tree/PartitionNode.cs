using Fuse;
using Linux;

namespace NbdFuse;

/// <summary>A partition: a range of an export that stands in the tree as a whole, too.</summary>
internal sealed unsafe class PartitionNode(
    ulong number, Partition partition, ExportFile disk, FileAttributesInMemory attributes) : FileNode(number)
{
    private const uint KeepSize = 0x01;
    private const uint PunchHole = 0x02;

    private int _opens;

    /// <summary>Where it lies.</summary>
    internal Partition Partition => partition;

    /// <inheritdoc/>
    internal override ExportFile Export => disk;

    /// <inheritdoc/>
    internal override ulong SizeBytes => partition.Length;

    /// <inheritdoc/>
    internal override bool IsOpen => Volatile.Read(ref _opens) > 0;

    /// <summary>
    /// Told of each range of the disk that is about to change: its first byte and its length in bytes. On a worker
    /// thread.
    /// </summary>
    internal Action<ulong, ulong>? Changing { get; init; }

    /// <inheritdoc/>
    internal override FuseAttr Attributes()
    {
        FuseAttr attr = disk.Attributes();
        attr.Inode = Number;
        attr.Size = partition.Length;
        attr.Blocks = disk.BlocksOf(partition.Start, partition.Start + partition.Length);
        attributes.CopyTo(ref attr);
        return attr;
    }

    /// <inheritdoc/>
    internal override Errno TryChange(in FuseSetAttrIn attr)
    {
        Errno refused = attr.Valid.HasFlag(FuseSetAttrValid.Size) ? disk.RefuseSize(attr, partition.Length) : Errno.None;
        if (refused == Errno.None)
        {
            attributes.Change(attr);
        }

        return refused;
    }

    /// <inheritdoc/>
    internal override void Open(FuseRequest request, uint flags)
    {
        // One more than there are when the OPEN is refused or interrupted: then the node stays until the end.
        _ = Interlocked.Increment(ref _opens);
        disk.Open(request, flags);
    }

    /// <inheritdoc/>
    internal override void Release(FuseRequest request, ulong handle)
    {
        disk.EndUse(handle);
        _ = Interlocked.Decrement(ref _opens);
        request.ReplyEmpty();
    }

    /// <inheritdoc/>
    internal override void Read(FuseRequest request, ulong offset, uint size)
    {
        if (offset >= partition.Length)
        {
            request.ReplyEmpty();
        }
        else
        {
            disk.Read(request, partition.Start + offset, (uint)Math.Min(size, partition.Length - offset));
        }
    }

    /// <inheritdoc/>
    internal override void Write(FuseRequest request, ulong offset, byte* payload, uint length, uint openFlags)
    {
        if (offset >= partition.Length)
        {
            request.ReplyError(Errno.ENOSPC);
            return;
        }

        length = (uint)Math.Min(length, partition.Length - offset);
        Changing?.Invoke(partition.Start + offset, length);
        attributes.TouchModified();
        disk.Write(request, partition.Start + offset, payload, length, openFlags);
    }

    /// <inheritdoc/>
    internal override void Lseek(FuseRequest request, ulong offset, uint whence) =>
        disk.Lseek(request, new FilePart(partition.Start, partition.Start + partition.Length, WriteBack), offset, whence);

    /// <inheritdoc/>
    internal override void Fsync(FuseRequest request) => disk.Fsync(request);

    /// <inheritdoc/>
    internal override void Fallocate(FuseRequest request, ulong handle, uint mode, ulong offset, ulong length)
    {
        bool endsBeyond = offset > partition.Length || length > partition.Length - offset;
        if (endsBeyond && (mode & (KeepSize | PunchHole)) == 0)
        {
            request.ReplyError(Errno.ENOSPC);
        }
        else if (offset >= partition.Length)
        {
            request.ReplyEmpty();
        }
        else
        {
            length = Math.Min(length, partition.Length - offset);
            Changing?.Invoke(partition.Start + offset, length);
            attributes.TouchModified();
            disk.Fallocate(request, handle, mode, partition.Start + offset, length);
        }
    }

    /// <inheritdoc/>
    internal override ExportRange Locate(ulong offset, ulong length)
    {
        ExportRange range = base.Locate(offset, length);
        return range with { Offset = partition.Start + range.Offset };
    }

    /// <inheritdoc/>
    internal override void CopiesTo(in ExportRange range)
    {
        Changing?.Invoke(range.Offset, range.Length);
        attributes.TouchModified();
    }
}
