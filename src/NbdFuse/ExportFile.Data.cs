using Fuse;
using Linux;
using Nbd;
using Nbd.Protocol;
using Tmds.Linux;

namespace NbdFuse;

/// <content>
/// READ, WRITE and FSYNC. Each is one NBD command where it fits into one; then nothing here allocates, and the
/// reply goes out from <see cref="ExportOperation"/> on the receive thread. Otherwise <see cref="NbdByteAccess"/> makes
/// several of it, and the reply goes out on the thread pool.
/// </content>
internal sealed unsafe partial class ExportFile
{
    internal void Read(FuseRequest request, ulong offset, uint size)
    {
        if (offset >= _size || size == 0)
        {
            request.ReplyEmpty();
            return;
        }

        uint length = (uint)Math.Min(size, _size - offset);
        ExportOperation operation = ExportOperation.For(request, ExportOperation.Kind.Read, length);
        Errno error = _bytes.IsOneRead(offset, length)
            ? _bytes.Read(offset, length, operation)
            : _bytes.Read(offset, request.DataBuffer, length, operation);
        ReplyUnlessAccepted(request, error);
    }

    internal void Write(FuseRequest request, ulong offset, byte* payload, uint length, uint openFlags)
    {
        if (_options.ReadOnly)
        {
            request.ReplyError(Errno.EROFS);
            return;
        }

        if (offset >= _size)
        {
            request.ReplyError(Errno.ENOSPC);
            return;
        }

        length = (uint)Math.Min(length, _size - offset);
        _attributes.TouchModified();

        // Of a file that the kernel caches it asks for durability with an FSYNC of its own.
        bool mustBeDurable = _options.DirectIo && (openFlags & LibC.O_DSYNC) != 0;
        NbdCommandFlags flags = mustBeDurable ? NbdCommandFlags.ForceUnitAccess : NbdCommandFlags.None;
        ExportOperation operation = ExportOperation.For(request, ExportOperation.Kind.Write, length);
        ReplyUnlessAccepted(request, _bytes.Write(offset, payload, length, flags, operation));
    }

    internal void Fsync(FuseRequest request)
    {
        if (_options.ReadOnly || !_pool.Export.CanFlush)
        {
            request.ReplyEmpty();
            return;
        }

        // The kernel has seen the replies to all WRITEs that this covers (proto.md, "Ordering").
        ReplyUnlessAccepted(request, _pool.Flush(ExportOperation.For(request, ExportOperation.Kind.Empty, 0)));
    }

    private static void ReplyUnlessAccepted(FuseRequest request, Errno error)
    {
        if (error != Errno.None)
        {
            request.ReplyError(FileErrno.From(error));
        }
    }
}
