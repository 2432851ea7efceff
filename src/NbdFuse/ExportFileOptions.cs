using Fuse;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>How the export looks as a file. Immutable.</summary>
internal sealed record ExportFileOptions
{
    /// <summary>Its name in the root directory; null when the root is the file.</summary>
    internal required string? FileName { get; init; }

    internal required bool ReadOnly { get; init; }

    internal required uint UserId { get; init; }

    internal required uint GroupId { get; init; }

    /// <summary>Permissions of the file; null for read (and write) by all, without <see cref="Umask"/>.</summary>
    internal uint? Mode { get; init; }

    /// <summary>Permissions that file and directory do without.</summary>
    internal uint Umask { get; init; }

    /// <summary>Nobody else writes to the export: what the kernel has cached stays true.</summary>
    internal bool KeepCache { get; init; }

    internal CacheMode Cache { get; init; }

    /// <summary>Every change must be durable before it is answered, as if all files were opened with O_SYNC.</summary>
    internal bool IsSynchronous { get; init; }

    internal TimeSpan AttrTimeout { get; init; } = FuseOptions.DefaultAttrTimeout;

    internal TimeSpan EntryTimeout { get; init; } = FuseOptions.DefaultEntryTimeout;

    /// <summary>The permissions of a file.</summary>
    internal uint FileMode => Mode ?? ((ReadOnly ? 0x124u : 0x1b6u) & ~Umask);

    /// <summary>What a command line asks for.</summary>
    /// <param name="invocation">The command line.</param>
    /// <param name="fileName">Name in the root directory, if any.</param>
    /// <param name="isReadOnly">Nothing may be written.</param>
    /// <param name="keepCache">Nobody else writes to the export.</param>
    internal static ExportFileOptions From(Invocation invocation, string? fileName, bool isReadOnly, bool keepCache)
    {
        FuseOptions fuse = invocation.Fuse;
        return new ExportFileOptions
        {
            FileName = fileName,
            ReadOnly = isReadOnly,
            UserId = invocation.UserId ?? fuse.UserId ?? LibC.geteuid(),
            GroupId = invocation.GroupId ?? fuse.GroupId ?? LibC.getegid(),
            Mode = invocation.Mode,
            Umask = fuse.Umask ?? (fuse.AllowOther ? ProcessUmask() : 0),
            KeepCache = fuse.KernelCache || keepCache,
            Cache = invocation.Cache,
            IsSynchronous = fuse.MountFlags.HasFlag(FuseMountFlags.Synchronous),
            AttrTimeout = fuse.AttrTimeout,
            EntryTimeout = fuse.EntryTimeout,
        };
    }

    private static uint ProcessUmask()
    {
        mode_t umask = LibC.umask(default);
        _ = LibC.umask(umask);
        return (uint)umask;
    }
}
