using Fuse;
using Linux;
using Nbd.Protocol;
using Tmds.Linux;

namespace NbdFuse;

/// <content>
/// SEEK_HOLE, SEEK_DATA and st_blocks. A hole is what the server says reads as zeroes, as long as nothing was written
/// there and nothing can be dirty in the kernel.
/// </content>
internal sealed partial class ExportFile
{
    /// <summary>The meta context that tells holes.</summary>
    internal const string AllocationContext = "base:allocation";

    // The answer to a question is forgotten when another client may have changed the export.
    private static readonly TimeSpan s_extentLifetime = TimeSpan.FromSeconds(5);

    // What stays unknown after so many answers, because it is being zeroed all the time, is data for one lseek(2).
    private const int MaximumRounds = 16;

    private const ulong BytesPerBlock = 512;
    private const ulong FewestBlocks = 8;

    // A bit of the handle of those who can make pages dirty without a WRITE.
    private const ulong DirtyingHandle = 1;

    // A writeback cache does not tell the kernel's attributes of what it sent; the other modes do.
    private static readonly TimeSpan s_writebackAttrTimeout = TimeSpan.FromSeconds(1);

    private int _dirtyingOpens;

    // How many lseek(2) wait for the kernel to send what is dirty.
    private int _writingBack;

    /// <summary>How long the kernel may take st_blocks for true.</summary>
    internal TimeSpan LongestAttrTimeout =>
        _options.Cache == CacheMode.Writeback ? s_writebackAttrTimeout : TimeSpan.MaxValue;

    /// <summary>Whether st_blocks is about to become smaller.</summary>
    internal bool IsMappingHoles => _extents?.IsMapping == true;

    /// <summary>Whether the holes are being looked for since so short a time that it is worth waiting.</summary>
    internal bool HasBegunToMap => _extents?.HasBegunToMap == true;

    /// <summary>Has all holes be found out, if they are not known. Completes, without fail, when that is done.</summary>
    internal Task MapHoles() => _extents?.Map() ?? Task.CompletedTask;

    /// <summary>Of what nothing is to be believed any more: a connection was lost.</summary>
    internal void ForgetAll()
    {
        ForgetReadAhead();
        _extents?.Tracker.Forget();
    }

    /// <summary>Somebody who opened the file is done with it.</summary>
    /// <param name="handle">What OPEN told the kernel.</param>
    internal void EndUse(ulong handle)
    {
        if ((handle & DirtyingHandle) != 0)
        {
            _ = Interlocked.Decrement(ref _dirtyingOpens);
        }
    }

    /// <summary>What stat(2) shows as allocated: all but the holes that are known.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="end">The byte after the last.</param>
    internal ulong BlocksOf(ulong start, ulong end)
    {
        ulong blocks = (end - start + BytesPerBlock - 1) / BytesPerBlock;
        ulong holes = _extents?.Tracker.HoleBytes(start, end, out _) ?? 0;

        // Never 0: tar takes that for zeroes without looking, and pages may be dirty that are not known of.
        return Math.Max(Math.Min(FewestBlocks, blocks), (end - start - holes + BytesPerBlock - 1) / BytesPerBlock);
    }

    /// <summary>LSEEK.</summary>
    /// <param name="request">Is answered, now or later.</param>
    /// <param name="part">What the file is of the export.</param>
    /// <param name="offset">In bytes of the file.</param>
    /// <param name="whence">SEEK_DATA or SEEK_HOLE.</param>
    internal void Lseek(FuseRequest request, FilePart part, ulong offset, uint whence)
    {
        ulong size = part.End - part.Start;
        bool wantsHole = whence == FileCalls.SEEK_HOLE;
        if (!wantsHole && whence != FileCalls.SEEK_DATA)
        {
            request.ReplyError(Errno.EINVAL);
        }
        else if (offset >= size)
        {
            request.ReplyError(Errno.ENXIO);
        }
        else if (_extents is null)
        {
            request.ReplyLseek(wantsHole ? size : offset);
        }
        else if (TryWalk(part.Start + offset, part.End, wantsHole, out ulong found)
            && !ClaimsHole(part.Start + offset, found, part.End, wantsHole))
        {
            ReplySeek(request, part, found, wantsHole);
        }
        else
        {
            SeekWithHelp(request, part, part.Start + offset, wantsHole);
        }
    }

    private static void ReplySeek(FuseRequest request, FilePart part, ulong found, bool wantsHole)
    {
        if (found >= part.End && !wantsHole)
        {
            request.ReplyError(Errno.ENXIO);
        }
        else
        {
            request.ReplyLseek(Math.Min(found, part.End) - part.Start);
        }
    }

    /// <summary>Looks for data or a hole in what is known.</summary>
    /// <param name="from">Where to begin.</param>
    /// <param name="end">The byte after the last.</param>
    /// <param name="wantsHole">What to look for.</param>
    /// <param name="found">Where it is, or the end; where nothing is known any more if the result is false.</param>
    private bool TryWalk(ulong from, ulong end, bool wantsHole, out ulong found)
    {
        found = from;
        while (found < end)
        {
            ExtentRun run = _extents!.Find(found);
            if (run.Kind == ExtentKind.Unknown)
            {
                return false;
            }

            if ((run.Kind == ExtentKind.Hole) == wantsHole)
            {
                return true;
            }

            found = run.End;
        }

        found = end;
        return true;
    }

    /// <summary>Whether an answer tells the kernel of a hole where pages may be dirty.</summary>
    private bool ClaimsHole(ulong from, ulong found, ulong end, bool wantsHole) =>
        Volatile.Read(ref _dirtyingOpens) > 0 && (wantsHole ? found < end : found > from);

    private async void SeekWithHelp(FuseRequest request, FilePart part, ulong from, bool wantsHole) =>
        ReplySeek(request, part, await Seek(request, part, from, wantsHole).ConfigureAwait(false), wantsHole);

    private async Task<ulong> Seek(FuseRequest request, FilePart part, ulong from, bool wantsHole)
    {
        // Where nothing is dirty in the kernel.
        (ulong Start, ulong End) clean = (from, from);
        ulong unknown = ulong.MaxValue;
        int rounds = 0;
        while (rounds < MaximumRounds && request.IsPending)
        {
            if (!TryWalk(from, part.End, wantsHole, out ulong found))
            {
                rounds = found == unknown ? rounds + 1 : 0;
                unknown = found;
                await _extents!.Learn(found).ConfigureAwait(false);
                continue;
            }

            (ulong start, ulong end) = wantsHole ? (found, Math.Min(_extents!.Find(found).End, part.End)) : (from, found);
            bool isClean = !ClaimsHole(from, found, part.End, wantsHole)
                || (start >= clean.Start && (wantsHole ? start : end) <= clean.End && start < clean.End);
            if (isClean)
            {
                return found;
            }

            rounds++;
            if (!await WriteBack(part, start, end).ConfigureAwait(false))
            {
                break;
            }

            clean = (start, end);
        }

        // To say that there is data is always allowed.
        return wantsHole ? part.End : from;
    }

    private async Task<bool> WriteBack(FilePart part, ulong start, ulong end)
    {
        if (part.WriteBack is null)
        {
            return false;
        }

        _ = Interlocked.Increment(ref _writingBack);
        try
        {
            return await part.WriteBack(start - part.Start, end - part.Start).ConfigureAwait(false);
        }
        finally
        {
            _ = Interlocked.Decrement(ref _writingBack);
        }
    }

    private ExtentSource? CreateExtents(Action<string> tell)
    {
        int context = AllocationIndex;
        return context < 0 || _size == 0
            ? null
            : new ExtentSource(
                _size,
                _pool.Export,
                context,
                _options.KeepCache ? Timeout.InfiniteTimeSpan : s_extentLifetime,
                (offset, length, completion) => _pool.BlockStatus(offset, length, NbdCommandFlags.None, completion),
                text => tell($"{_pool.Endpoint}: {text}"),
                TimeProvider.System);
    }

    /// <summary>The handle of an OPEN that is about to succeed.</summary>
    private ulong BeginUse(uint flags)
    {
        if ((flags & LibC.O_ACCMODE) != LibC.O_WRONLY)
        {
            _ = MapHoles();
        }

        // Those who may make a shared mapping that can be written to, or whose write(2) the kernel keeps for a while.
        uint access = flags & (uint)LibC.O_ACCMODE;
        bool isDirtying = access == LibC.O_RDWR
            || (access == LibC.O_WRONLY && _options.Cache == CacheMode.Writeback);
        ulong durable = (flags & LibC.O_DSYNC) != 0 || _options.IsSynchronous ? DurableHandle : 0;
        if (!isDirtying)
        {
            return durable;
        }

        _ = Interlocked.Increment(ref _dirtyingOpens);
        return DirtyingHandle | durable;
    }
}
