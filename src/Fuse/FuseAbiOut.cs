using System.Runtime.InteropServices;

namespace Fuse;

// The bodies of replies, after the out-header.

/// <summary>How the kernel shall treat an open file (FOPEN_* of its ABI).</summary>
[Flags]
public enum FuseOpenFlags : uint
{
    /// <summary>Cached; the page cache of the file is dropped by this open.</summary>
    None = 0,

    /// <summary>Reads and writes bypass the page cache.</summary>
    DirectIo = 1 << 0,

    /// <summary>Keep what the page cache has of the file.</summary>
    KeepCache = 1 << 1,

    /// <summary>The file has no offset.</summary>
    NonSeekable = 1 << 2,

    /// <summary>Directory entries may be cached.</summary>
    CacheDirectory = 1 << 3,

    /// <summary>The file is a stream.</summary>
    Stream = 1 << 4,

    /// <summary>No FLUSH at close (7.35).</summary>
    NoFlush = 1 << 5,

    /// <summary>Several direct writes at a time; only with <see cref="DirectIo"/> (7.38).</summary>
    ParallelDirectWrites = 1 << 6,
}

/// <summary>Attributes of a node (struct fuse_attr, 88 bytes).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FuseAttr
{
    /// <summary>The inode number that stat(2) shows.</summary>
    public ulong Inode;

    /// <summary>Size in bytes, at most 2^63-1: the kernel answers EIO for ever after a bigger one.</summary>
    public ulong Size;

    /// <summary>Allocated units of 512 bytes.</summary>
    public ulong Blocks;

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

    /// <summary>File type and permissions. The type of a node must never change.</summary>
    public uint Mode;

    /// <summary>Number of names: 1 of a file, 2 of a directory.</summary>
    public uint LinkCount;

    /// <summary>Owner.</summary>
    public uint UserId;

    /// <summary>Group.</summary>
    public uint GroupId;

    /// <summary>Number of a device node.</summary>
    public uint DeviceId;

    /// <summary>Preferred size of I/O in bytes, a power of two.</summary>
    public uint BlockSize;

    /// <summary>FUSE_ATTR_* bits.</summary>
    public uint Flags;
}

/// <summary>The reply to LOOKUP (struct fuse_entry_out, 128 bytes).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FuseEntryOut
{
    /// <summary>The node; 0 says "no such name" and may be cached. Never 1.</summary>
    public ulong NodeId;

    /// <summary>Tells apart files that had the same node.</summary>
    public ulong Generation;

    /// <summary>How long the name may be cached, in seconds.</summary>
    public ulong EntryValid;

    /// <summary>How long the attributes may be cached, in seconds.</summary>
    public ulong AttrValid;

    /// <summary>Nanoseconds of <see cref="EntryValid"/>.</summary>
    public uint EntryValidNanoseconds;

    /// <summary>Nanoseconds of <see cref="AttrValid"/>.</summary>
    public uint AttrValidNanoseconds;

    /// <summary>The attributes.</summary>
    public FuseAttr Attr;
}

/// <summary>The reply to GETATTR and SETATTR (struct fuse_attr_out, 104 bytes).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FuseAttrOut
{
    /// <summary>How long the attributes may be cached, in seconds.</summary>
    public ulong AttrValid;

    /// <summary>Nanoseconds of <see cref="AttrValid"/>.</summary>
    public uint AttrValidNanoseconds;

    /// <summary>Zero.</summary>
    public uint Dummy;

    /// <summary>The attributes.</summary>
    public FuseAttr Attr;
}

/// <summary>The reply to STATFS (struct fuse_statfs_out, 80 bytes).</summary>
[StructLayout(LayoutKind.Sequential)]
public unsafe struct FuseStatfsOut
{
    /// <summary>Size, in units of <see cref="FragmentSize"/>.</summary>
    public ulong Blocks;

    /// <summary>Free units.</summary>
    public ulong BlocksFree;

    /// <summary>Units free for users.</summary>
    public ulong BlocksAvailable;

    /// <summary>Number of inodes.</summary>
    public ulong Files;

    /// <summary>Free inodes.</summary>
    public ulong FilesFree;

    /// <summary>Preferred size of I/O in bytes; a loop device takes it as its discard granularity.</summary>
    public uint BlockSize;

    /// <summary>Longest name in bytes.</summary>
    public uint NameLength;

    /// <summary>The unit of the counts, in bytes.</summary>
    public uint FragmentSize;

    /// <summary>Zero.</summary>
    public uint Padding;

    /// <summary>Zero.</summary>
    public fixed uint Spare[6];
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseOpenOut
{
    internal ulong Handle;
    internal FuseOpenFlags OpenFlags;
    internal int BackingId;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseWriteOut
{
    internal uint Size;
    internal uint Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseLseekOut
{
    internal ulong Offset;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseGetXattrOut
{
    internal uint Size;
    internal uint Padding;
}

[StructLayout(LayoutKind.Sequential)]
internal struct FuseIoctlOut
{
    internal int Result;
    internal uint Flags;
    internal uint InputIovecs;
    internal uint OutputIovecs;
}

/// <summary>A directory entry (struct fuse_dirent); the name follows, padded to 8 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseDirent
{
    internal const int SizeBytes = 24;

    internal ulong Inode;
    internal ulong Offset;
    internal uint NameLength;
    internal uint Type;
}
