using System.Runtime.InteropServices;
using Tmds.Linux;

namespace Fuse;

/// <summary>
/// What the kernel and we share of an entry besides its payload (struct fuse_uring_req_header), and behind it what
/// registers the entry.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
internal unsafe struct UringEntryHeader
{
    /// <summary>One after the other in memory: a multiple of 64 bytes.</summary>
    internal const int SizeBytes = 320;

    /// <summary>How much of it is the kernel's.</summary>
    internal const int KernelBytes = 288;

    /// <summary>Most bytes of <see cref="Operation"/>.</summary>
    internal const int OperationBytes = 128;

    /// <summary>From the kernel: the start of the request.</summary>
    [FieldOffset(0)]
    internal FuseInHeader In;

    /// <summary>To the kernel: the start of the reply. Its length is not looked at.</summary>
    [FieldOffset(0)]
    internal FuseOutHeader Out;

    /// <summary>From the kernel: the fixed part of the request's body. All that follows it is in the payload.</summary>
    [FieldOffset(128)]
    internal fixed byte Operation[OperationBytes];

    /// <summary>From the kernel: names the request when it is committed.</summary>
    [FieldOffset(264)]
    internal ulong CommitId;

    /// <summary>Both ways: bytes in the payload.</summary>
    [FieldOffset(272)]
    internal uint PayloadBytes;

    /// <summary>Header and payload, as REGISTER wants them.</summary>
    [FieldOffset(KernelBytes)]
    internal iovec Header;

    /// <summary>Second of the two.</summary>
    [FieldOffset(KernelBytes + 16)]
    internal iovec Payload;
}

/// <summary>The arguments of both commands (struct fuse_uring_cmd_req).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UringCommandArguments
{
    internal ulong Flags;
    internal ulong CommitId;
    internal ushort QueueId;
    internal ushort Padding0;
    internal uint Padding1;
}

/// <summary>The commands of the device (enum fuse_uring_cmd).</summary>
internal enum UringCommand : uint
{
    /// <summary>Gives an entry to its queue. Done when there is a request in it.</summary>
    Register = 1,

    /// <summary>Answers the request in an entry, and gives the entry back. Done when there is the next one in it.</summary>
    CommitAndFetch = 2,
}
