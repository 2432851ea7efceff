using Linux;

namespace Fuse;

/// <summary>The answer to an INIT and what follows from it. Pure: the kernel's offer in, our answer out.</summary>
/// <param name="Error">Not 0: the only thing to answer, and the connection cannot be used.</param>
/// <param name="Answer">Our answer.</param>
/// <param name="AnswerBytes">How much of it this kernel understands.</param>
/// <param name="Limits">What was agreed; null when there is an error, or when the kernel shall offer again.</param>
internal readonly record struct FuseInit(Errno Error, FuseInitOut Answer, uint AnswerBytes, FuseLimits? Limits)
{
    // ASYNC_DIO keeps asynchronous direct I/O in parallel. It also makes the caller of a synchronous one wait without
    // taking signals, for files opened without FOPEN_DIRECT_IO: there the file system must answer in time by itself.
    // ABORT_ERROR tells an abort from an unmount. REQUEST_TIMEOUT is left out: it aborts the whole connection.
    // PARALLEL_DIROPS: our handlers are thread-safe anyway. HANDLE_KILLPRIV_V2: without it a file system with
    // extended attributes gets a GETXATTR before each WRITE; it must keep no set-user-id bits over a write then.
    private const FuseInitFlags Wanted =
        FuseInitFlags.AsyncRead | FuseInitFlags.BigWrites | FuseInitFlags.AsyncDirectIo
        | FuseInitFlags.ParallelDirectoryOperations | FuseInitFlags.AbortError | FuseInitFlags.MaxPages
        | FuseInitFlags.InitExt | FuseInitFlags.DirectIoAllowMmap | FuseInitFlags.HandleKillPrivV2;

    private const uint MinWithLongAnswer = 23;
    private const uint ShortAnswerBytes = 24;

    /// <summary>Negotiates.</summary>
    /// <param name="offer">What the kernel sent; what an old kernel did not send is zero.</param>
    /// <param name="offerBytes">How much it sent.</param>
    /// <param name="options">What we want.</param>
    /// <param name="maxReadBytes">The mount's max_read, 0 for none.</param>
    /// <param name="maxPagesLimit">The system's limit of pages in a request.</param>
    /// <param name="uring">Wanted as well: requests through rings.</param>
    internal static unsafe FuseInit Negotiate(
        in FuseInitIn offer,
        int offerBytes,
        FuseSessionOptions options,
        uint maxReadBytes,
        uint maxPagesLimit,
        UringLayout? uring = null)
    {
        if (offer.Major > FuseAbi.Major)
        {
            // The kernel reads only the version and then offers again, in ours.
            FuseInitOut version = new() { Major = FuseAbi.Major, Minor = FuseAbi.Minor };
            return new FuseInit(Errno.None, version, (uint)sizeof(FuseInitOut), null);
        }

        if (offer.Major < FuseAbi.Major || offer.Minor < FuseAbi.OldestMinor)
        {
            return new FuseInit(Errno.EPROTO, default, 0, null);
        }

        ulong offered = offer.Flags;
        if ((offered & (ulong)FuseInitFlags.InitExt) != 0 && offerBytes > FuseInitIn.OldSizeBytes)
        {
            offered |= (ulong)offer.Flags2 << 32;
        }
        else
        {
            offered &= ~(ulong)FuseInitFlags.InitExt;
        }

        // The two ways to keep the page cache honest exclude each other.
        FuseInitFlags wanted = Wanted | (options.AutoInvalidateData
            ? FuseInitFlags.AutoInvalidateData
            : FuseInitFlags.ExplicitInvalidateData)
            | (uring is null ? FuseInitFlags.None : FuseInitFlags.OverIoUring)
            | (options.WritebackCache ? FuseInitFlags.WritebackCache : FuseInitFlags.None);
        FuseInitFlags flags = wanted & (FuseInitFlags)offered;

        uint pageSize = (uint)Environment.SystemPageSize;
        uint wantedPages = ((uint)options.MaxRequestBytes + pageSize - 1) / pageSize;
        uint pages = Math.Clamp(wantedPages, 1, flags.HasFlag(FuseInitFlags.MaxPages)
            ? Math.Clamp(maxPagesLimit, 1, ushort.MaxValue)
            : FuseAbi.DefaultMaxPages);
        uint bytes = Math.Max(Math.Min((uint)options.MaxRequestBytes, pages * pageSize), pageSize);
        uint maxRead = maxReadBytes == 0 ? pages * pageSize : Math.Min(maxReadBytes, pages * pageSize);
        uint minor = Math.Min(offer.Minor, FuseAbi.Minor);
        bool isUring = flags.HasFlag(FuseInitFlags.OverIoUring);
        ushort background = isUring
            ? (ushort)Math.Min(options.MaxBackground, uring!.Background)
            : options.MaxBackground;
        ushort congestion = isUring
            ? (ushort)Math.Min(options.CongestionThreshold, background * 3 / 4)
            : options.CongestionThreshold;

        FuseInitOut answer = new()
        {
            Major = FuseAbi.Major,
            Minor = minor,
            MaxReadAhead = offer.MaxReadAhead,
            Flags = (uint)flags,
            Flags2 = (uint)((ulong)flags >> 32),
            MaxBackground = background,
            CongestionThreshold = congestion,
            MaxWrite = bytes,
            TimeGranularity = 1,
            MaxPages = (ushort)(flags.HasFlag(FuseInitFlags.MaxPages) ? pages : 0),
        };
        FuseLimits limits = new()
        {
            Minor = minor,
            Flags = flags,
            MaxWriteBytes = bytes,
            MaxReadBytes = maxRead,
            MaxReadAheadBytes = offer.MaxReadAhead,
            MaxBackground = background,
        };
        uint answerBytes = offer.Minor < MinWithLongAnswer ? ShortAnswerBytes : (uint)sizeof(FuseInitOut);
        return new FuseInit(Errno.None, answer, answerBytes, limits);
    }
}
