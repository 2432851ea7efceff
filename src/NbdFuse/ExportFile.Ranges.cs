using Fuse;
using Linux;
using Nbd.Protocol;

namespace NbdFuse;

/// <content>
/// FALLOCATE. fallocate(2) promises zeroes for a punched and for a zeroed range alike, so both are WRITE_ZEROES;
/// TRIM promises nothing about the content. The kernel sends no FSYNC after it, and does not tell it of O_DSYNC.
/// </content>
internal sealed unsafe partial class ExportFile
{
    private const uint KeepSize = 0x01;
    private const uint PunchHole = 0x02;
    private const uint ZeroRange = 0x10;

    internal void Fallocate(FuseRequest request, ulong handle, uint mode, ulong offset, ulong length)
    {
        bool keepsSize = (mode & KeepSize) != 0;
        bool isPunch = mode == (PunchHole | KeepSize);
        bool isZero = (mode & ~KeepSize) == ZeroRange;
        if (_options.ReadOnly)
        {
            request.ReplyError(Errno.EROFS);
        }
        else if (!isPunch && !isZero && (mode & ~KeepSize) != 0)
        {
            request.ReplyError(Errno.EOPNOTSUPP);
        }
        else if (!isPunch && (offset > _size || length > _size - offset) && !(isZero && keepsSize))
        {
            request.ReplyError(Errno.ENOSPC);
        }
        else if (offset >= _size || (mode & ~KeepSize) == 0)
        {
            // Nothing inside the file is asked for, or that it be allocated: the server does that when written to.
            request.ReplyEmpty();
        }
        else
        {
            _attributes.TouchModified();
            BeginChange(request, ExtentKind.Unknown, offset, length);
            NbdCommandFlags flags = (isPunch ? NbdCommandFlags.None : NbdCommandFlags.NoHole)
                | (MustBeDurable(handle) ? NbdCommandFlags.ForceUnitAccess : NbdCommandFlags.None);
            ExportOperation operation = ExportOperation.For(request, ExportOperation.Kind.Empty, 0);
            CompleteUnlessAccepted(
                operation, _bytes.WriteZeroes(offset, Math.Min(length, _size - offset), flags, operation));
        }
    }
}
