using System.Runtime.InteropServices;

namespace Fuse;

// Names, order and sizes follow include/uapi/linux/fuse.h, ABI 7.45. Everything is in host byte order.

/// <summary>Constants of the kernel's ABI.</summary>
internal static class FuseAbi
{
    /// <summary>The major version that this library speaks.</summary>
    internal const uint Major = 7;

    /// <summary>The newest minor version that this library knows.</summary>
    internal const uint Minor = 45;

    /// <summary>Below this minor version several structures are shorter than those here (ABI 7.9 and 7.12).</summary>
    internal const uint OldestMinor = 12;

    /// <summary>The kernel refuses reads into less than this many bytes.</summary>
    internal const int MinimumReadBytes = 8192;

    /// <summary>Bytes before the data of a WRITE: the in-header and fuse_write_in.</summary>
    internal const int WriteOverheadBytes = 80;

    /// <summary>Most pages of one request when the kernel does not offer MAX_PAGES.</summary>
    internal const uint DefaultMaxPages = 32;

    /// <summary>The ioctl that joins a second open of /dev/fuse to a connection.</summary>
    internal const uint IoctlClone = 0x8004e500;
}

/// <summary>The start of every request (struct fuse_in_header).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseInHeader
{
    internal const int SizeBytes = 40;

    /// <summary>Bytes of the whole request.</summary>
    internal uint Length;
    internal FuseOpcode Opcode;
    internal ulong Unique;
    internal ulong NodeId;
    internal uint UserId;
    internal uint GroupId;
    internal uint ProcessId;

    /// <summary>Length of extensions at the end of the request, in units of 8 bytes (7.38).</summary>
    internal ushort ExtensionLength;
    internal ushort Padding;
}

/// <summary>The start of every reply and notification (struct fuse_out_header).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseOutHeader
{
    internal const int SizeBytes = 16;

    /// <summary>Bytes of the whole reply.</summary>
    internal uint Length;

    /// <summary>0 or a negated error number; of a notification, its code.</summary>
    internal int Error;

    /// <summary>Of the request; 0 in a notification.</summary>
    internal ulong Unique;
}

/// <summary>What the kernel offers (struct fuse_init_in). Kernels before 5.17 send the first 16 bytes only.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct FuseInitIn
{
    internal const int OldSizeBytes = 16;

    internal uint Major;
    internal uint Minor;
    internal uint MaxReadAhead;
    internal uint Flags;
    internal uint Flags2;
    internal fixed uint Unused[11];
}

/// <summary>What we accept (struct fuse_init_out).</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct FuseInitOut
{
    internal uint Major;
    internal uint Minor;
    internal uint MaxReadAhead;
    internal uint Flags;
    internal ushort MaxBackground;
    internal ushort CongestionThreshold;
    internal uint MaxWrite;
    internal uint TimeGranularity;
    internal ushort MaxPages;
    internal ushort MapAlignment;
    internal uint Flags2;
    internal uint MaxStackDepth;
    internal ushort RequestTimeout;
    internal fixed ushort Unused[11];
}

/// <summary>Codes of notifications (enum fuse_notify_code).</summary>
internal enum FuseNotifyCode
{
    InvalidateInode = 2,
    Store = 4,
}

/// <summary>Drops cached attributes and pages (struct fuse_notify_inval_inode_out).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseNotifyInvalidateInodeOut
{
    internal ulong NodeId;
    internal long Offset;
    internal long Length;
}

/// <summary>Puts data into the page cache (struct fuse_notify_store_out); the data follows.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct FuseNotifyStoreOut
{
    internal ulong NodeId;
    internal ulong Offset;
    internal uint Size;
    internal uint Padding;
}
