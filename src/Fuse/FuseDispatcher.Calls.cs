using Linux;
using Tmds.Linux;

namespace Fuse;

// From the bytes of a body to the file system's method. The fixed part of the body is known to be there. Each returns
// false, with the request unanswered, when the rest is malformed.
internal sealed unsafe partial class FuseDispatcher
{
    private bool TryCall(FuseRequest request, FuseBody body) => request.Opcode switch
    {
        FuseOpcode.Read => Read(request, *(FuseReadIn*)body.Start),
        FuseOpcode.Write => Write(request, body),
        FuseOpcode.GetAttr => GetAttr(request, *(FuseGetAttrIn*)body.Start),
        FuseOpcode.SetAttr => SetAttr(request, *(FuseSetAttrIn*)body.Start),
        FuseOpcode.Lookup => Lookup(request, body),
        FuseOpcode.Open => Open(request, *(FuseOpenIn*)body.Start),
        FuseOpcode.Flush => Flush(request, *(FuseFlushIn*)body.Start),
        FuseOpcode.Release => Release(request, *(FuseReleaseIn*)body.Start),
        FuseOpcode.Fsync => Fsync(request, *(FuseFsyncIn*)body.Start),
        FuseOpcode.Fallocate => Fallocate(request, *(FuseFallocateIn*)body.Start),
        FuseOpcode.Lseek => Lseek(request, *(FuseLseekIn*)body.Start),
        FuseOpcode.OpenDir => OpenDir(request, *(FuseOpenIn*)body.Start),
        FuseOpcode.ReadDir => ReadDir(request, *(FuseReadIn*)body.Start),
        FuseOpcode.ReleaseDir => ReleaseDir(request, *(FuseReleaseIn*)body.Start),
        FuseOpcode.FsyncDir => FsyncDir(request, *(FuseFsyncIn*)body.Start),
        FuseOpcode.StatFs => StatFs(request),
        FuseOpcode.Access => Access(request, *(FuseAccessIn*)body.Start),
        FuseOpcode.GetXattr => GetXattr(request, body),
        FuseOpcode.ListXattr => ListXattr(request, *(FuseGetXattrIn*)body.Start),
        FuseOpcode.SetXattr => SetXattr(request, body),
        FuseOpcode.RemoveXattr => RemoveXattr(request, body),
        FuseOpcode.Ioctl => Ioctl(request, body),
        FuseOpcode.CopyFileRange or FuseOpcode.CopyFileRange64 =>
            CopyFileRange(request, *(FuseCopyFileRangeIn*)body.Start),
        FuseOpcode.ReadLink => ReadLink(request),
        FuseOpcode.Create or FuseOpcode.MkNod or FuseOpcode.MkDir or FuseOpcode.SymLink or FuseOpcode.Link
            or FuseOpcode.Unlink or FuseOpcode.RmDir or FuseOpcode.Rename or FuseOpcode.Rename2
            or FuseOpcode.TmpFile => ChangeNames(request),
        FuseOpcode.Poll => Poll(request),
        FuseOpcode.Destroy => Destroy(request),

        // A second one: only the session's start may see an INIT.
        FuseOpcode.Init => false,

        // Deliberate for those that are known: STATX makes the kernel fall back to GETATTR; BMAP and SYNCFS are not
        // sent to plain fuse mounts; locks, READDIRPLUS and DAX are never negotiated.
        FuseOpcode.StatX or FuseOpcode.BMap or FuseOpcode.SyncFs or FuseOpcode.GetLock or FuseOpcode.SetLock
            or FuseOpcode.SetLockWait or FuseOpcode.ReadDirPlus or FuseOpcode.SetupMapping
            or FuseOpcode.RemoveMapping => NotImplemented(request),
        _ => NotImplemented(request),
    };

    private static bool NotImplemented(FuseRequest request)
    {
        request.ReplyError(Errno.ENOSYS);
        return true;
    }

    private static bool Destroy(FuseRequest request)
    {
        request.ReplyEmpty();
        return true;
    }

    private bool Read(FuseRequest request, in FuseReadIn read)
    {
        if (read.Offset > long.MaxValue || read.Size > request.DataCapacity)
        {
            return false;
        }

        request.IsDirect = (read.Flags & LibC.O_DIRECT) != 0;
        _fileSystem.Read(request, read.Handle, read.Offset, read.Size);
        return true;
    }

    private bool Write(FuseRequest request, FuseBody body)
    {
        FuseWriteIn write = *(FuseWriteIn*)body.Start;
        if (write.Offset > long.MaxValue || write.Size != body.Length - sizeof(FuseWriteIn))
        {
            return false;
        }

        request.IsWriteback = (write.WriteFlags & FuseWriteIn.FromCache) != 0;
        byte* payload = body.Start + sizeof(FuseWriteIn);
        _fileSystem.Write(request, write.Handle, write.Offset, payload, write.Size, write.Flags);
        return true;
    }

    private bool GetAttr(FuseRequest request, in FuseGetAttrIn get)
    {
        request.IsForOpenFile = (get.Flags & FuseGetAttrIn.HasHandle) != 0;
        _fileSystem.GetAttr(request);
        return true;
    }

    private bool SetAttr(FuseRequest request, in FuseSetAttrIn attr)
    {
        _fileSystem.SetAttr(request, attr);
        return true;
    }

    private bool Lookup(FuseRequest request, FuseBody body)
    {
        if (!body.TryGetName(0, out ReadOnlySpan<byte> name))
        {
            return false;
        }

        _fileSystem.Lookup(request, name);
        return true;
    }

    private bool Open(FuseRequest request, in FuseOpenIn open)
    {
        _fileSystem.Open(request, open.Flags);
        return true;
    }

    private bool Flush(FuseRequest request, in FuseFlushIn flush)
    {
        _fileSystem.Flush(request, flush.Handle);
        return true;
    }

    private bool Release(FuseRequest request, in FuseReleaseIn release)
    {
        _fileSystem.Release(request, release.Handle);
        return true;
    }

    private bool Fsync(FuseRequest request, in FuseFsyncIn fsync)
    {
        _fileSystem.Fsync(request, fsync.Handle, (fsync.FsyncFlags & FuseFsyncIn.DataOnly) != 0);
        return true;
    }

    private bool Fallocate(FuseRequest request, in FuseFallocateIn range)
    {
        if (range.Offset > long.MaxValue || range.Length > long.MaxValue)
        {
            return false;
        }

        _fileSystem.Fallocate(request, range.Handle, range.Mode, range.Offset, range.Length);
        return true;
    }

    private bool Lseek(FuseRequest request, in FuseLseekIn seek)
    {
        if (seek.Offset > long.MaxValue)
        {
            return false;
        }

        _fileSystem.Lseek(request, seek.Handle, seek.Offset, seek.Whence);
        return true;
    }

    private bool OpenDir(FuseRequest request, in FuseOpenIn open)
    {
        _fileSystem.Opendir(request, open.Flags);
        return true;
    }

    private bool ReadDir(FuseRequest request, in FuseReadIn read)
    {
        _fileSystem.Readdir(request, read.Handle, read.Offset, Math.Min(read.Size, (uint)request.DataCapacity));
        return true;
    }

    private bool ReleaseDir(FuseRequest request, in FuseReleaseIn release)
    {
        _fileSystem.Releasedir(request, release.Handle);
        return true;
    }

    private bool FsyncDir(FuseRequest request, in FuseFsyncIn fsync)
    {
        _fileSystem.Fsyncdir(request, fsync.Handle, (fsync.FsyncFlags & FuseFsyncIn.DataOnly) != 0);
        return true;
    }

    private bool StatFs(FuseRequest request)
    {
        _fileSystem.Statfs(request);
        return true;
    }

    private bool Access(FuseRequest request, in FuseAccessIn access)
    {
        _fileSystem.Access(request, access.Mask);
        return true;
    }

    private bool GetXattr(FuseRequest request, FuseBody body)
    {
        if (!body.TryGetName(sizeof(FuseGetXattrIn), out ReadOnlySpan<byte> name))
        {
            return false;
        }

        _fileSystem.GetXattr(request, name, ((FuseGetXattrIn*)body.Start)->Size);
        return true;
    }

    private bool ListXattr(FuseRequest request, in FuseGetXattrIn list)
    {
        _fileSystem.ListXattr(request, list.Size);
        return true;
    }

    private bool SetXattr(FuseRequest request, FuseBody body)
    {
        FuseSetXattrIn set = *(FuseSetXattrIn*)body.Start;
        if (!body.TryGetName(sizeof(FuseSetXattrIn), out ReadOnlySpan<byte> name))
        {
            return false;
        }

        ReadOnlySpan<byte> value = body.Bytes(sizeof(FuseSetXattrIn) + name.Length + 1);
        if (set.Size != value.Length)
        {
            return false;
        }

        _fileSystem.SetXattr(request, name, value, set.Flags);
        return true;
    }

    private bool RemoveXattr(FuseRequest request, FuseBody body)
    {
        if (!body.TryGetName(0, out ReadOnlySpan<byte> name))
        {
            return false;
        }

        _fileSystem.RemoveXattr(request, name);
        return true;
    }

    private bool Ioctl(FuseRequest request, FuseBody body)
    {
        FuseIoctlIn ioctl = *(FuseIoctlIn*)body.Start;
        ReadOnlySpan<byte> input = body.Bytes(sizeof(FuseIoctlIn));
        if (ioctl.InputSize != input.Length)
        {
            return false;
        }

        _fileSystem.Ioctl(request, ioctl, input);
        return true;
    }

    private bool CopyFileRange(FuseRequest request, in FuseCopyFileRangeIn copy)
    {
        _fileSystem.CopyFileRange(request, copy);
        return true;
    }

    private bool ReadLink(FuseRequest request)
    {
        _fileSystem.ReadLink(request);
        return true;
    }

    private bool ChangeNames(FuseRequest request)
    {
        _fileSystem.ChangeNames(request);
        return true;
    }

    private bool Poll(FuseRequest request)
    {
        _fileSystem.Poll(request);
        return true;
    }
}
