using System.Runtime.InteropServices;

namespace Fuse;

// The bodies of requests, after the in-header. Public only where a file system gets to see them.

/// <summary>Which attributes a SETATTR changes (FATTR_* of the kernel's ABI).</summary>
[Flags]
public enum FuseSetAttrValid : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Permissions.</summary>
    Mode = 1 << 0,

    /// <summary>Owner.</summary>
    UserId = 1 << 1,

    /// <summary>Group.</summary>
    GroupId = 1 << 2,

    /// <summary>Size.</summary>
    Size = 1 << 3,

    /// <summary>Time of the last access.</summary>
    AccessTime = 1 << 4,

    /// <summary>Time of the last change of the data.</summary>
    ModifyTime = 1 << 5,

    /// <summary>Nothing is changed by this bit: <see cref="FuseSetAttrIn.Handle"/> is valid.</summary>
    Handle = 1 << 6,

    /// <summary>The access time is now.</summary>
    AccessTimeNow = 1 << 7,

    /// <summary>The modify time is now.</summary>
    ModifyTimeNow = 1 << 8,

    /// <summary>The lock owner field is valid.</summary>
    LockOwner = 1 << 9,

    /// <summary>Time of the last change of the attributes.</summary>
    ChangeTime = 1 << 10,

    /// <summary>Clear set-user-id and set-group-id bits.</summary>
    KillSetUserGroupId = 1 << 11,
}

/// <summary>The body of SETATTR (struct fuse_setattr_in, 88 bytes).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FuseSetAttrIn
{
    /// <summary>Which fields count.</summary>
    public FuseSetAttrValid Valid;

    /// <summary>Zero.</summary>
    public uint Padding;

    /// <summary>The handle of an open file, when <see cref="FuseSetAttrValid.Handle"/> is set.</summary>
    public ulong Handle;

    /// <summary>Size in bytes.</summary>
    public ulong Size;

    /// <summary>Owner of locks.</summary>
    public ulong LockOwner;

    /// <summary>Seconds since 1970.</summary>
    public ulong AccessTime;

    /// <summary>Seconds since 1970.</summary>
    public ulong ModifyTime;

    /// <summary>Seconds since 1970.</summary>
    public ulong ChangeTime;

    /// <summary>Nanoseconds of <see cref="AccessTime"/>.</summary>
    public uint AccessTimeNanoseconds;

    /// <summary>Nanoseconds of <see cref="ModifyTime"/>.</summary>
    public uint ModifyTimeNanoseconds;

    /// <summary>Nanoseconds of <see cref="ChangeTime"/>.</summary>
    public uint ChangeTimeNanoseconds;

    /// <summary>File type and permissions.</summary>
    public uint Mode;

    /// <summary>Zero.</summary>
    public uint Unused4;

    /// <summary>Owner.</summary>
    public uint UserId;

    /// <summary>Group.</summary>
    public uint GroupId;

    /// <summary>Zero.</summary>
    public uint Unused5;
}

/// <summary>The body of COPY_FILE_RANGE (struct fuse_copy_file_range_in, 56 bytes).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FuseCopyFileRangeIn
{
    /// <summary>Handle of the source; its node is the request's.</summary>
    public ulong SourceHandle;

    /// <summary>Offset in the source, in bytes.</summary>
    public ulong SourceOffset;

    /// <summary>Node of the destination.</summary>
    public ulong DestinationNodeId;

    /// <summary>Handle of the destination.</summary>
    public ulong DestinationHandle;

    /// <summary>Offset in the destination, in bytes.</summary>
    public ulong DestinationOffset;

    /// <summary>Bytes to copy.</summary>
    public ulong Length;

    /// <summary>Flags of copy_file_range(2), zero today.</summary>
    public ulong Flags;
}

/// <summary>The fixed part of IOCTL (struct fuse_ioctl_in, 32 bytes); the input bytes follow it.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FuseIoctlIn
{
    /// <summary>Handle of the open file.</summary>
    public ulong Handle;

    /// <summary>FUSE_IOCTL_* bits.</summary>
    public uint Flags;

    /// <summary>The ioctl's number.</summary>
    public uint Command;

    /// <summary>The caller's argument, an address in its memory.</summary>
    public ulong Argument;

    /// <summary>Bytes of input that follow.</summary>
    public uint InputSize;

    /// <summary>Most bytes of output.</summary>
    public uint OutputSize;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseGetAttrIn
{
    internal const uint HasHandle = 1;

    internal uint Flags;
    internal uint Padding;
    internal ulong Handle;
}

/// <summary>Also the body of OPENDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseOpenIn
{
    internal uint Flags;
    internal uint OpenFlags;
}

/// <summary>Also the body of READDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseReadIn
{
    internal ulong Handle;
    internal ulong Offset;
    internal uint Size;
    internal uint ReadFlags;
    internal ulong LockOwner;
    internal uint Flags;
    internal uint Padding;
}

/// <summary>The data follows.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseWriteIn
{
    internal const uint FromCache = 1;

    internal ulong Handle;
    internal ulong Offset;
    internal uint Size;
    internal uint WriteFlags;
    internal ulong LockOwner;
    internal uint Flags;
    internal uint Padding;
}

/// <summary>Also the body of RELEASEDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseReleaseIn
{
    internal ulong Handle;
    internal uint Flags;
    internal uint ReleaseFlags;
    internal ulong LockOwner;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseFlushIn
{
    internal ulong Handle;
    internal uint Unused;
    internal uint Padding;
    internal ulong LockOwner;
}

/// <summary>Also the body of FSYNCDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseFsyncIn
{
    internal const uint DataOnly = 1;

    internal ulong Handle;
    internal uint FsyncFlags;
    internal uint Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseAccessIn
{
    internal uint Mask;
    internal uint Padding;
}

/// <summary>Name and value follow. Longer only if SETXATTR_EXT was negotiated, which we never do.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseSetXattrIn
{
    internal uint Size;
    internal uint Flags;
}

/// <summary>Also the body of LISTXATTR. GETXATTR's name follows.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseGetXattrIn
{
    internal uint Size;
    internal uint Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseInterruptIn
{
    internal ulong Unique;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseFallocateIn
{
    internal ulong Handle;
    internal ulong Offset;
    internal ulong Length;
    internal uint Mode;
    internal uint Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseLseekIn
{
    internal ulong Handle;
    internal ulong Offset;
    internal uint Whence;
    internal uint Padding;
}
