namespace Fuse;

/// <summary>Generic flags of a mount, with the values of mount(2)'s MS_*.</summary>
[Flags]
public enum FuseMountFlags : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Set-user-id bits have no effect.</summary>
    NoSuid = 1 << 1,

    /// <summary>Device nodes cannot be opened.</summary>
    NoDev = 1 << 2,

    /// <summary>Programs cannot be run.</summary>
    NoExec = 1 << 3,

    /// <summary>Every write is synchronous.</summary>
    Synchronous = 1 << 4,

    /// <summary>Changes of directories are synchronous.</summary>
    DirSync = 1 << 7,

    /// <summary>Access times are not updated.</summary>
    NoAtime = 1 << 10,

    /// <summary>Access times of directories are not updated.</summary>
    NoDirAtime = 1 << 11,
}

/// <summary>What a mount shall look like.</summary>
public sealed record FuseMountOptions
{
    /// <summary>What /proc/mounts shows first. Any text without NUL.</summary>
    public required string Source { get; init; }

    /// <summary>The type of the mount is "fuse." and this.</summary>
    public required string Subtype { get; init; }

    /// <summary>The kernel refuses writes.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Other users may use the mount. Without root it needs user_allow_other in /etc/fuse.conf.</summary>
    public bool AllowOther { get; init; }

    /// <summary>The kernel checks modes and owners. Never leave it out with <see cref="AllowOther"/>.</summary>
    public bool DefaultPermissions { get; init; } = true;

    /// <summary>
    /// A helper process of fusermount3 unmounts when this process is gone without having done so. Without root the
    /// helper of fuse3 3.14 needs <see cref="AllowOther"/> too: it looks at the mount with other rights than its user's.
    /// </summary>
    public bool AutoUnmount { get; init; }

    /// <summary>Most bytes of one READ; 0 leaves it to the negotiation.</summary>
    public uint MaxReadBytes { get; init; }

    /// <summary>Generic flags. Mounts without root always have the default ones.</summary>
    public FuseMountFlags Flags { get; init; } = FuseMountFlags.NoSuid | FuseMountFlags.NoDev;
}
