using Linux;

namespace Fuse;

/// <summary>
/// What answers the requests of a mount: one method for each. Every call must lead to exactly one reply method
/// of its request, now or later, from any thread; that call also gives the request object back, so nothing of it
/// may be touched afterwards.
/// </summary>
/// <remarks>
/// <para>Methods run on the session's worker threads and in parallel: one that blocks keeps other requests
/// waiting. Spans and pointers are valid until the reply.</para>
/// <para>A method that throws is answered with EIO. It may throw only while no other thread knows the request.</para>
/// <para>Defaults: ENOSYS where the kernel remembers it and does the right thing from then on, otherwise an error
/// that a program understands. Never answer ENOSYS for a passing trouble: the kernel remembers it for the whole
/// mount.</para>
/// </remarks>
public abstract unsafe class FuseFileSystem
{
    /// <summary>LOOKUP: finds <paramref name="name"/> in the directory <see cref="FuseRequest.NodeId"/>. Default ENOENT.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEntry"/>.</param>
    /// <param name="name">The name, without its NUL.</param>
    protected internal virtual void Lookup(FuseRequest request, ReadOnlySpan<byte> name) =>
        request.ReplyError(Errno.ENOENT);

    /// <summary>GETATTR: attributes of <see cref="FuseRequest.NodeId"/>. Node 1 is the root.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyAttr"/>.</param>
    protected internal abstract void GetAttr(FuseRequest request);

    /// <summary>SETATTR: changes attributes. The kernel takes the size from the reply. Default EPERM.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyAttr"/>.</param>
    /// <param name="attr">What to change.</param>
    protected internal virtual void SetAttr(FuseRequest request, in FuseSetAttrIn attr) =>
        request.ReplyError(Errno.EPERM);

    /// <summary>OPEN. Default: handle 0, no flags.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyOpen"/>.</param>
    /// <param name="flags">The O_* bits of open(2) without O_CREAT, O_EXCL and O_NOCTTY.</param>
    protected internal virtual void Open(FuseRequest request, uint flags) =>
        request.ReplyOpen(0, FuseOpenFlags.None);

    /// <summary>
    /// READ. Return all bytes up to the end of the file, or an error: the kernel takes a short reply as the end of
    /// the file. Default EIO.
    /// </summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyData"/> or <see cref="FuseRequest.ReplyBytes"/>.</param>
    /// <param name="handle">What OPEN returned.</param>
    /// <param name="offset">In bytes, at most 2^63-1. May lie past the end of the file.</param>
    /// <param name="size">In bytes, at most <see cref="FuseLimits.MaxReadBytes"/>.</param>
    protected internal virtual void Read(FuseRequest request, ulong handle, ulong offset, uint size) =>
        request.ReplyError(Errno.EIO);

    /// <summary>WRITE. Never acknowledge bytes past the end of a file that cannot grow. Default EROFS.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyWritten"/>.</param>
    /// <param name="handle">What OPEN returned.</param>
    /// <param name="offset">In bytes, at most 2^63-1.</param>
    /// <param name="payload">The data; the request owns it, it is valid until the reply.</param>
    /// <param name="length">Bytes of data, at most <see cref="FuseLimits.MaxWriteBytes"/>.</param>
    /// <param name="openFlags">The O_* bits of the open file; with FOPEN_DIRECT_IO, O_DSYNC must be honoured here.</param>
    protected internal virtual void Write(
        FuseRequest request, ulong handle, ulong offset, byte* payload, uint length, uint openFlags) =>
        request.ReplyError(Errno.EROFS);

    /// <summary>STATFS. Default: zero blocks of 4096 bytes.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyStatfs"/>.</param>
    protected internal virtual void Statfs(FuseRequest request) =>
        request.ReplyStatfs(new FuseStatfsOut { BlockSize = 4096, FragmentSize = 4096, NameLength = 255 });

    /// <summary>RELEASE: the last close. The caller does not wait for the answer. Default success.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="handle">What OPEN returned.</param>
    protected internal virtual void Release(FuseRequest request, ulong handle) => request.ReplyEmpty();

    /// <summary>FSYNC: makes written data durable. Default EINVAL; ENOSYS would be remembered as success.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="handle">What OPEN returned.</param>
    /// <param name="dataOnly">fdatasync(2).</param>
    protected internal virtual void Fsync(FuseRequest request, ulong handle, bool dataOnly) =>
        request.ReplyError(Errno.EINVAL);

    /// <summary>
    /// FLUSH: a close(2). Default ENOSYS: the kernel takes it as success and never sends FLUSH again.
    /// </summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="handle">What OPEN returned.</param>
    protected internal virtual void Flush(FuseRequest request, ulong handle) => request.ReplyError(Errno.ENOSYS);

    /// <summary>OPENDIR. Default: handle 0.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyOpen"/>.</param>
    /// <param name="flags">The O_* bits of open(2).</param>
    protected internal virtual void Opendir(FuseRequest request, uint flags) =>
        request.ReplyOpen(0, FuseOpenFlags.None);

    /// <summary>READDIR: entries from <paramref name="offset"/> on; none means the end. Default ENOTDIR.</summary>
    /// <param name="request">Answer with <see cref="FuseDirectoryWriter.Reply"/>.</param>
    /// <param name="handle">What OPENDIR returned.</param>
    /// <param name="offset">0, or the cookie that the last entry named as its next.</param>
    /// <param name="size">Most bytes of the reply.</param>
    protected internal virtual void Readdir(FuseRequest request, ulong handle, ulong offset, uint size) =>
        request.ReplyError(Errno.ENOTDIR);

    /// <summary>RELEASEDIR. Default success.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="handle">What OPENDIR returned.</param>
    protected internal virtual void Releasedir(FuseRequest request, ulong handle) => request.ReplyEmpty();

    /// <summary>FSYNCDIR. Default success.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="handle">What OPENDIR returned.</param>
    /// <param name="dataOnly">fdatasync(2).</param>
    protected internal virtual void Fsyncdir(FuseRequest request, ulong handle, bool dataOnly) => request.ReplyEmpty();

    /// <summary>FALLOCATE. Default EOPNOTSUPP.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="handle">What OPEN returned.</param>
    /// <param name="mode">FALLOC_FL_KEEP_SIZE 1, PUNCH_HOLE 2, ZERO_RANGE 0x10.</param>
    /// <param name="offset">In bytes, at most 2^63-1.</param>
    /// <param name="length">In bytes, at most 2^63-1.</param>
    protected internal virtual void Fallocate(
        FuseRequest request, ulong handle, uint mode, ulong offset, ulong length) =>
        request.ReplyError(Errno.EOPNOTSUPP);

    /// <summary>
    /// LSEEK for data or for a hole. Default ENOSYS: the kernel then takes every file as all data.
    /// </summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyLseek"/>.</param>
    /// <param name="handle">What OPEN returned.</param>
    /// <param name="offset">In bytes, at most 2^63-1.</param>
    /// <param name="whence">SEEK_DATA 3 or SEEK_HOLE 4.</param>
    protected internal virtual void Lseek(FuseRequest request, ulong handle, ulong offset, uint whence) =>
        request.ReplyError(Errno.ENOSYS);

    /// <summary>
    /// ACCESS: access(2) of a mount without default_permissions. Default ENOSYS: the kernel takes it as "allowed".
    /// </summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="mask">R_OK 4, W_OK 2, X_OK 1.</param>
    protected internal virtual void Access(FuseRequest request, uint mask) => request.ReplyError(Errno.ENOSYS);

    /// <summary>GETXATTR. Default ENOSYS: callers get EOPNOTSUPP from then on without a request.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyXattrSize"/> if size is 0, else with
    /// <see cref="FuseRequest.ReplyBytes"/>, or with ERANGE.</param>
    /// <param name="name">The attribute, without its NUL.</param>
    /// <param name="size">Most bytes of the value; 0 asks for its size.</param>
    protected internal virtual void GetXattr(FuseRequest request, ReadOnlySpan<byte> name, uint size) =>
        request.ReplyError(Errno.ENOSYS);

    /// <summary>LISTXATTR. Default ENOSYS, as for GETXATTR.</summary>
    /// <param name="request">As for GETXATTR; the value is names, each with its NUL.</param>
    /// <param name="size">Most bytes of the list; 0 asks for its size.</param>
    protected internal virtual void ListXattr(FuseRequest request, uint size) => request.ReplyError(Errno.ENOSYS);

    /// <summary>SETXATTR. Default ENOSYS, as for GETXATTR.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="name">The attribute, without its NUL.</param>
    /// <param name="value">The value.</param>
    /// <param name="flags">XATTR_CREATE 1, XATTR_REPLACE 2.</param>
    protected internal virtual void SetXattr(
        FuseRequest request, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, uint flags) =>
        request.ReplyError(Errno.ENOSYS);

    /// <summary>REMOVEXATTR. Default ENOSYS, as for GETXATTR.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyEmpty"/>.</param>
    /// <param name="name">The attribute, without its NUL.</param>
    protected internal virtual void RemoveXattr(FuseRequest request, ReadOnlySpan<byte> name) =>
        request.ReplyError(Errno.ENOSYS);

    /// <summary>IOCTL. Default ENOTTY.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyIoctl"/>.</param>
    /// <param name="ioctl">Handle, command, sizes.</param>
    /// <param name="input">The input bytes that the command's number announces.</param>
    protected internal virtual void Ioctl(FuseRequest request, in FuseIoctlIn ioctl, ReadOnlySpan<byte> input) =>
        request.ReplyError(Errno.ENOTTY);

    /// <summary>
    /// COPY_FILE_RANGE and COPY_FILE_RANGE_64. Default ENOSYS: the kernel reads and writes instead.
    /// </summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyCopied"/>.</param>
    /// <param name="copy">What to copy.</param>
    protected internal virtual void CopyFileRange(FuseRequest request, in FuseCopyFileRangeIn copy) =>
        request.ReplyError(Errno.ENOSYS);

    /// <summary>READLINK. Default EINVAL: not a symbolic link.</summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyBytes"/>.</param>
    protected internal virtual void ReadLink(FuseRequest request) => request.ReplyError(Errno.EINVAL);

    /// <summary>
    /// CREATE, MKNOD, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, RENAME2 and TMPFILE (see
    /// <see cref="FuseRequest.Opcode"/>): the names of a mount are fixed. Default EPERM; only an error may be replied.
    /// </summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyError"/>.</param>
    protected internal virtual void ChangeNames(FuseRequest request) => request.ReplyError(Errno.EPERM);

    /// <summary>
    /// POLL. Default ENOSYS: the kernel then takes every file as always ready. Only an error may be replied.
    /// </summary>
    /// <param name="request">Answer with <see cref="FuseRequest.ReplyError"/>.</param>
    protected internal virtual void Poll(FuseRequest request) => request.ReplyError(Errno.ENOSYS);
}
