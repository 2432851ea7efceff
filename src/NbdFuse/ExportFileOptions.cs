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

    /// <summary>The kernel lets all users in, and only this one and root may pass us; null for all.</summary>
    internal uint? OnlyUserId { get; init; }

    /// <summary>Nobody else writes to the export: what the kernel has cached stays true.</summary>
    internal bool KeepCache { get; init; }

    internal CacheMode Cache { get; init; }

    internal TimeSpan AttrTimeout { get; init; } = FuseOptions.DefaultAttrTimeout;

    internal TimeSpan EntryTimeout { get; init; } = FuseOptions.DefaultEntryTimeout;
}
