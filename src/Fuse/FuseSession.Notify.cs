using Linux;

namespace Fuse;

// Notifications may wait for a page or inode that a request has locked: never call them from a thread that is needed
// to answer one, which the workers are.
public sealed partial class FuseSession
{
    /// <summary>Drops what the kernel has cached of a node. Not to be called from a worker thread.</summary>
    /// <param name="nodeId">The node.</param>
    /// <param name="offset">First byte; negative for the attributes only.</param>
    /// <param name="length">Bytes; 0 or less for everything from <paramref name="offset"/> on.</param>
    /// <returns>ENOENT when the kernel does not know the node, which is as good as success.</returns>
    public unsafe Errno NotifyInvalidateInode(ulong nodeId, long offset, long length)
    {
        FuseNotifyInvalidateInodeOut body = new() { NodeId = nodeId, Offset = offset, Length = length };
        int bytes = FuseOutHeader.SizeBytes + sizeof(FuseNotifyInvalidateInodeOut);
        byte* frame = stackalloc byte[bytes];
        *(FuseOutHeader*)frame = new FuseOutHeader
        {
            Length = (uint)bytes,
            Error = (int)FuseNotifyCode.InvalidateInode,
        };
        *(FuseNotifyInvalidateInodeOut*)(frame + FuseOutHeader.SizeBytes) = body;
        return _device.Send(frame, (uint)bytes);
    }

    /// <summary>
    /// Tells the kernel the size of a node that is a root of type file. The kernel makes a root with size 0 and asks
    /// only when it has a reason to: until then reads return nothing while a write is under way. Needed for a mount without
    /// <see cref="FuseMountOptions.DefaultPermissions"/>: with it the first open asks. Call it right after
    /// <see cref="Start"/>, before anybody is told of the mount, and not from a worker thread.
    /// </summary>
    /// <param name="nodeId">The node.</param>
    /// <param name="sizeBytes">Its size.</param>
    public unsafe Errno NotifySize(ulong nodeId, long sizeBytes)
    {
        if (sizeBytes <= 0)
        {
            return Errno.None;
        }

        // A STORE of the last byte grows the inode. The byte itself is not true: drop it again.
        int bytes = FuseOutHeader.SizeBytes + sizeof(FuseNotifyStoreOut) + 1;
        byte* frame = stackalloc byte[bytes];
        *(FuseOutHeader*)frame = new FuseOutHeader { Length = (uint)bytes, Error = (int)FuseNotifyCode.Store };
        *(FuseNotifyStoreOut*)(frame + FuseOutHeader.SizeBytes) = new FuseNotifyStoreOut
        {
            NodeId = nodeId,
            Offset = (ulong)sizeBytes - 1,
            Size = 1,
        };
        frame[bytes - 1] = 0;
        Errno error = _device.Send(frame, (uint)bytes);
        return error == Errno.None ? NotifyInvalidateInode(nodeId, sizeBytes - 1, 1) : error;
    }
}
