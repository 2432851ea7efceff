namespace Fuse;

/// <summary>
/// Features of the protocol (FUSE_* of enum fuse_init_flags). Bits 32 to 63 are those of the second word, flags2.
/// </summary>
[Flags]
public enum FuseInitFlags : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Read-ahead requests in parallel.</summary>
    AsyncRead = 1UL << 0,

    /// <summary>The file system keeps POSIX locks.</summary>
    PosixLocks = 1UL << 1,

    /// <summary>OPEN carries O_TRUNC.</summary>
    AtomicOTrunc = 1UL << 3,

    /// <summary>LOOKUP handles "." and "..", for NFS.</summary>
    ExportSupport = 1UL << 4,

    /// <summary>A WRITE may be longer than a page.</summary>
    BigWrites = 1UL << 5,

    /// <summary>The file system keeps BSD locks.</summary>
    FlockLocks = 1UL << 10,

    /// <summary>Cached pages are dropped when attributes show a change (7.20).</summary>
    AutoInvalidateData = 1UL << 12,

    /// <summary>READDIRPLUS is known (7.21).</summary>
    DoReadDirPlus = 1UL << 13,

    /// <summary>READDIRPLUS is used when it pays (7.21).</summary>
    ReadDirPlusAuto = 1UL << 14,

    /// <summary>O_DIRECT I/O in parallel parts (7.22).</summary>
    AsyncDirectIo = 1UL << 15,

    /// <summary>Writes stay in the page cache (7.23).</summary>
    WritebackCache = 1UL << 16,

    /// <summary>ENOSYS to OPEN means: no OPEN any more (7.23).</summary>
    NoOpenSupport = 1UL << 17,

    /// <summary>LOOKUP and READDIR of a directory in parallel (7.25).</summary>
    ParallelDirectoryOperations = 1UL << 18,

    /// <summary>A read of the device after an abort fails with ECONNABORTED, not ENODEV (7.27).</summary>
    AbortError = 1UL << 21,

    /// <summary>The answer to INIT has max_pages (7.28).</summary>
    MaxPages = 1UL << 22,

    /// <summary>ENOSYS to OPENDIR means: no OPENDIR any more (7.29).</summary>
    NoOpenDirSupport = 1UL << 24,

    /// <summary>Cached pages are dropped only on request (7.30).</summary>
    ExplicitInvalidateData = 1UL << 25,

    /// <summary>
    /// The file system clears set-user-id and set-group-id bits itself, so that the kernel need not ask for the
    /// attribute security.capability before each write (7.33).
    /// </summary>
    HandleKillPrivV2 = 1UL << 28,

    /// <summary>The second word of flags counts (7.36).</summary>
    InitExt = 1UL << 30,

    /// <summary>Shared mappings of files opened with FOPEN_DIRECT_IO (7.39).</summary>
    DirectIoAllowMmap = 1UL << 36,

    /// <summary>Requests through io_uring (7.42).</summary>
    OverIoUring = 1UL << 41,

    /// <summary>The kernel aborts the connection when a request takes too long (7.43).</summary>
    RequestTimeout = 1UL << 42,
}
