using System.Runtime.InteropServices;

namespace Linux;

/// <summary>One thing to do for the kernel: a struct io_uring_sqe of 128 bytes. Fields that share memory share it here.</summary>
[StructLayout(LayoutKind.Explicit, Size = SizeBytes)]
public unsafe struct IoUringSubmission
{
    /// <summary>Size in bytes: twice the usual, which IORING_SETUP_SQE128 asks for.</summary>
    public const int SizeBytes = 128;

    /// <summary>Size of <see cref="Command"/> in bytes.</summary>
    public const int CommandBytes = 80;

    /// <summary>What to do.</summary>
    [FieldOffset(0)]
    public IoUringOperation Operation;

    /// <summary>The descriptor that it is about.</summary>
    [FieldOffset(4)]
    public int Fd;

    /// <summary>Offset in a file; all ones for a stream.</summary>
    [FieldOffset(8)]
    public ulong Offset;

    /// <summary>Of a command: which one.</summary>
    [FieldOffset(8)]
    public uint CommandCode;

    /// <summary>Memory to read from or write to.</summary>
    [FieldOffset(16)]
    public ulong Address;

    /// <summary>Its length in bytes, or a number of vectors.</summary>
    [FieldOffset(24)]
    public uint Length;

    /// <summary>MSG_* flags, or the events of a poll (on little-endian machines).</summary>
    [FieldOffset(28)]
    public uint Flags;

    /// <summary>Comes back with the completion.</summary>
    [FieldOffset(32)]
    internal ulong UserData;

    /// <summary>Of a command: its arguments.</summary>
    [FieldOffset(48)]
    public fixed byte Command[CommandBytes];
}

/// <summary>Operations of an io_uring (enum io_uring_op).</summary>
public enum IoUringOperation : byte
{
    /// <summary>poll(2), once.</summary>
    PollAdd = 6,

    /// <summary>read(2).</summary>
    Read = 22,

    /// <summary>recv(2).</summary>
    Receive = 27,

    /// <summary>A command of the file's own.</summary>
    Command = 46,
}
