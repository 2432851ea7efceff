using Fuse;
using Linux;

namespace NbdFuse;

/// <content>COPY_FILE_RANGE: from one file of the mount to another, or to another place of the same one.</content>
internal sealed partial class ExportFileSystem
{
    // Linux 5.17. Older kernels may leave dirty pages of the source unsent and stale pages of the destination cached.
    private const uint FirstMinorWithTrueCopies = 36;

    // One copy_file_range(2) of Linux asks for less than 2 GiB; the answer has 32 bits.
    private const ulong LongestCopy = 1UL << 31;

    private bool _canCopy;

    /// <inheritdoc/>
    protected override void CopyFileRange(FuseRequest request, in FuseCopyFileRangeIn copy)
    {
        if (!_canCopy)
        {
            request.ReplyError(Errno.ENOSYS);
        }
        else if (FindFile(request) is FileNode source)
        {
            CopyTo(request, source, copy);
        }
    }

    private void CopyTo(FuseRequest request, FileNode source, in FuseCopyFileRangeIn copy)
    {
        if (tree.Find(copy.DestinationNodeId) is not FileNode { Export: ExportFile export } destination
            || source.Export is null)
        {
            request.ReplyError(Errno.EBADF);
            return;
        }

        ExportRange origin = source.Locate(copy.SourceOffset, Math.Min(copy.Length, LongestCopy));
        ExportRange to = destination.Locate(copy.DestinationOffset, origin.Length);
        origin = origin with { Length = to.Length };
        Errno refused = export.IsReadOnly ? Errno.EROFS
            : to.Length == 0 && copy.DestinationOffset >= destination.SizeBytes ? Errno.ENOSPC
            : origin.Overlaps(to) ? Errno.EINVAL
            : Errno.None;
        if (refused != Errno.None)
        {
            request.ReplyError(refused);
        }
        else if (to.Length == 0)
        {
            request.ReplyCopied(0);
        }
        else
        {
            destination.CopiesTo(to);
            export.Copy(request, origin, to, ExportFile.MustBeDurable(copy.DestinationHandle));
        }
    }
}
