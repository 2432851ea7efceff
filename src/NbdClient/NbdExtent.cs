namespace Nbd;

/// <summary>A range of an export about which a meta context says the same.</summary>
/// <param name="Offset">First byte.</param>
/// <param name="Length">Bytes, at least 1.</param>
/// <param name="Flags">
/// What the context says: for base:allocation <see cref="Hole"/> and <see cref="Zero"/>, for qemu:dirty-bitmap:NAME
/// <see cref="Dirty"/>, for qemu:allocation-depth the depth in the backing chain (0: not allocated). Bits that are not
/// known mean nothing.
/// </param>
public readonly record struct NbdExtent(long Offset, long Length, ulong Flags)
{
    /// <summary>base:allocation, NBD_STATE_HOLE: not allocated.</summary>
    public const ulong Hole = 1 << 0;

    /// <summary>base:allocation, NBD_STATE_ZERO: reads as zeroes.</summary>
    public const ulong Zero = 1 << 1;

    /// <summary>qemu:dirty-bitmap:NAME: changed since the bitmap was made.</summary>
    public const ulong Dirty = 1 << 0;

    /// <summary>The first byte behind it.</summary>
    public long End => Offset + Length;

    /// <summary>Of base:allocation: whether it reads as zeroes. What is only a hole may read as anything.</summary>
    public bool IsZero => (Flags & Zero) != 0;
}
