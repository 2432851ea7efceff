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
    // From here on receiving where the data belongs costs less than a copy; below, several replies come in one piece.
    private const uint LargeReadBytes = 64 << 10;

    internal void Read(FuseRequest request, ulong offset, uint size)
    {
        if (offset >= _size || size == 0)
        {
            request.ReplyEmpty();
            return;
        }

        uint length = (uint)Math.Min(size, _size - offset);
        if (_readAhead is null || !_readAhead.TryRead(request, offset, length))
        {
            ReadPlainly(request, offset, length);
        }
    }

    private void ReadPlainly(FuseRequest request, ulong offset, uint length)
    {
        ExportOperation operation = ExportOperation.For(request, ExportOperation.Kind.Read, length);
        bool fitsAnywhere = _bytes.IsOneRead(offset, length)
            && !(length >= LargeReadBytes && request.IsDataBufferShared);
        CompleteUnlessAccepted(operation, fitsAnywhere
            ? _bytes.Read(offset, length, operation)
            : _bytes.Read(offset, request.DataBuffer, length, operation));
    }

    internal void Write(FuseRequest request, ulong offset, byte* payload, uint length, uint openFlags)
    {
        if (_options.ReadOnly)
        {
            request.ReplyError(Errno.EROFS);
            return;
        }

        ulong room = offset < _size ? _size - offset : 0;
        bool isCut = length > room;
        if (isCut && request.IsWriteback)
        {
            TellOfOverrun();
        }

        if (room == 0)
        {
            request.ReplyError(Errno.ENOSPC);
            return;
        }

        length = (uint)Math.Min(length, room);
        _attributes.TouchModified();
        BeginChange(request, ExtentKind.Data, offset, length);

        // Of a file that the kernel caches it asks for durability with an FSYNC of its own.
        bool mustBeDurable = _options.Cache == CacheMode.None && (openFlags & LibC.O_DSYNC) != 0;
        NbdCommandFlags flags = mustBeDurable ? NbdCommandFlags.ForceUnitAccess : NbdCommandFlags.None;
        ExportOperation.Kind kind = isCut && !MayBeShort(request, openFlags)
            ? ExportOperation.Kind.CutWrite
            : ExportOperation.Kind.Write;
        ExportOperation operation = ExportOperation.For(request, kind, length);
        CompleteUnlessAccepted(operation, _bytes.Write(offset, payload, length, flags, operation));
    }

    internal void Fsync(FuseRequest request)
    {
        if (_options.ReadOnly || !_pool.Export.CanFlush)
        {
            request.ReplyEmpty();
            return;
        }

        // The kernel has seen the replies to all WRITEs that this covers (proto.md, "Ordering").
        ExportOperation operation = ExportOperation.For(request, ExportOperation.Kind.Empty, 0);
        CompleteUnlessAccepted(operation, _pool.Flush(operation));
    }

    /// <summary>
    /// Whether the kernel makes a short write of a short answer. For pages of its cache, and for the parts of a direct write
    /// that it sends at one time, that would be EIO.
    /// </summary>
    private bool MayBeShort(FuseRequest request, uint openFlags) =>
        !request.IsWriteback && (_options.Cache == CacheMode.None || (openFlags & LibC.O_DIRECT) == 0);

    private static void CompleteUnlessAccepted(ExportOperation operation, Errno error)
    {
        if (error != Errno.None)
        {
            operation.Complete(error, null);
        }
    }

    /// <summary>
    /// Says that a request is going to change a range: before its first command, once it is sure that its answer comes
    /// from an <see cref="ExportOperation"/>.
    /// </summary>
    private void BeginChange(FuseRequest request, ExtentKind becomes, ulong offset, ulong length)
    {
        if (_readAhead is not null || _extents is not null)
        {
            ExportOperation.For(request, ExportOperation.Kind.Empty, 0)
                .Changes(_readAhead, _extents?.Tracker, becomes, offset, length);
        }
    }
}
