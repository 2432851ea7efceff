namespace Fuse;

/// <summary>The bytes of a request after its header.</summary>
internal readonly unsafe ref struct FuseBody
{
    internal FuseBody(byte* start, int length)
    {
        Start = start;
        Length = length;
    }

    internal byte* Start { get; }

    internal int Length { get; }

    /// <summary>Size of the fixed part of a body; what follows it (names, data) is checked where it is used.</summary>
    internal static int MinimumBytes(FuseOpcode opcode) => opcode switch
    {
        FuseOpcode.GetAttr => sizeof(FuseGetAttrIn),
        FuseOpcode.SetAttr => sizeof(FuseSetAttrIn),
        FuseOpcode.Open or FuseOpcode.OpenDir => sizeof(FuseOpenIn),
        FuseOpcode.Read or FuseOpcode.ReadDir => sizeof(FuseReadIn),
        FuseOpcode.Write => sizeof(FuseWriteIn),
        FuseOpcode.Release or FuseOpcode.ReleaseDir => sizeof(FuseReleaseIn),
        FuseOpcode.Flush => sizeof(FuseFlushIn),
        FuseOpcode.Fsync or FuseOpcode.FsyncDir => sizeof(FuseFsyncIn),
        FuseOpcode.Access => sizeof(FuseAccessIn),
        FuseOpcode.SetXattr => sizeof(FuseSetXattrIn),
        FuseOpcode.GetXattr or FuseOpcode.ListXattr => sizeof(FuseGetXattrIn),
        FuseOpcode.Interrupt => sizeof(FuseInterruptIn),
        FuseOpcode.Ioctl => sizeof(FuseIoctlIn),
        FuseOpcode.Fallocate => sizeof(FuseFallocateIn),
        FuseOpcode.Lseek => sizeof(FuseLseekIn),
        FuseOpcode.CopyFileRange or FuseOpcode.CopyFileRange64 => sizeof(FuseCopyFileRangeIn),
        _ => 0,
    };

    /// <summary>Most data that the reply can have. The body is not shorter than <see cref="MinimumBytes"/>.</summary>
    internal uint ExpectedDataBytes(FuseOpcode opcode) => opcode switch
    {
        FuseOpcode.Read or FuseOpcode.ReadDir => ((FuseReadIn*)Start)->Size,
        FuseOpcode.GetXattr or FuseOpcode.ListXattr => ((FuseGetXattrIn*)Start)->Size,
        FuseOpcode.Ioctl => ((FuseIoctlIn*)Start)->OutputSize,
        _ => 0,
    };

    /// <summary>All bytes from an offset on.</summary>
    internal ReadOnlySpan<byte> Bytes(int offset) => new(Start + offset, Length - offset);

    /// <summary>The name at an offset, up to its NUL. False when it is empty or has no NUL.</summary>
    internal bool TryGetName(int offset, out ReadOnlySpan<byte> name)
    {
        ReadOnlySpan<byte> rest = Bytes(offset);
        int end = rest.IndexOf((byte)0);
        name = end > 0 ? rest[..end] : default;
        return end > 0;
    }
}
