namespace NbdFuse;

/// <summary>What the kernel's page cache may do with the file (--cache).</summary>
internal enum CacheMode
{
    /// <summary>Reads are cached; each write(2) is at the server when it returns.</summary>
    Writethrough,

    /// <summary>Nothing is cached: read(2) and write(2) go to the server; only mappings have pages.</summary>
    None,

    /// <summary>Writes are collected in the cache; fsync(2), close(2) and unmounting push them.</summary>
    Writeback,
}
