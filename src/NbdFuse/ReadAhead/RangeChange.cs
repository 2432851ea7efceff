namespace NbdFuse;

/// <summary>
/// A range that a request is changing, from before its first command until it is answered. Guarded by the lock of the
/// <see cref="ReadAhead"/> that it is registered with.
/// </summary>
internal sealed class RangeChange
{
    /// <summary>First byte.</summary>
    internal ulong Start { get; set; }

    /// <summary>First byte behind it.</summary>
    internal ulong End { get; set; }

    /// <summary>The one that began after it.</summary>
    internal RangeChange? Newer { get; set; }

    /// <summary>The one that began before it.</summary>
    internal RangeChange? Older { get; set; }
}
