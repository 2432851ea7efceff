using Fuse;
using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// One export as one file, wherever in the tree it stands. This part answers from memory whatever is not about data;
/// the other parts map data to NBD commands. Each method that takes a request answers it, now or later.
/// Thread-safe.
/// </summary>
internal sealed partial class ExportFile
{
    // A bit of the handle of a file that was opened with O_DSYNC, which is also in O_SYNC.
    private const ulong DurableHandle = 2;

    private readonly NbdConnectionPool _pool;
    private readonly ExportFileOptions _options;
    private readonly NbdByteAccess _bytes;
    private readonly ulong _size;
    private readonly FileAttributesInMemory _attributes;
    private readonly ReadAhead? _readAhead;
    private readonly ExtentSource? _extents;

    /// <param name="pool">The export. Its completions may come until it is closed.</param>
    /// <param name="options">How it looks.</param>
    /// <param name="warn">Told what users should know, rarely.</param>
    /// <param name="tell">Told what users may like to know.</param>
    /// <param name="readAhead">Memory to read ahead into, perhaps shared with other exports; null: no read-ahead.</param>
    internal ExportFile(
        NbdConnectionPool pool,
        ExportFileOptions options,
        Action<string> warn,
        Action<string> tell,
        BlockMemory? readAhead = null)
    {
        _pool = pool;
        _options = options;
        _bytes = new NbdByteAccess(pool);
        _size = (ulong)_bytes.SizeBytes;
        if (_bytes.SizeBytes != pool.Export.SizeBytes)
        {
            warn(
                $"{pool.Endpoint}: the last {pool.Export.SizeBytes - _bytes.SizeBytes} bytes of the export are left out: "
                + $"its size of {pool.Export.SizeBytes} bytes is not a multiple of the {pool.Export.MinimumBlockBytes} "
                + "bytes that the server asks for at least");
        }

        _attributes = new FileAttributesInMemory((uint)LibC.S_IFREG | options.FileMode, options.UserId, options.GroupId);
        _readAhead = readAhead is null ? null : CreateReadAhead(readAhead);
        _extents = CreateExtents(tell);
    }

    /// <summary>Bytes.</summary>
    internal ulong SizeBytes => _size;

    /// <summary>The server's minimum block, in bytes.</summary>
    internal uint MinimumBlockBytes => (uint)_pool.Export.MinimumBlockBytes;

    /// <summary>Nothing may be written.</summary>
    internal bool IsReadOnly => _options.ReadOnly;

    /// <summary>Whether a change through a handle that OPEN told must be durable before it is answered.</summary>
    internal static bool MustBeDurable(ulong handle) => (handle & DurableHandle) != 0;

    internal void Open(FuseRequest request, uint flags)
    {
        Errno refused = RefuseOpen(flags);
        if (refused != Errno.None)
        {
            request.ReplyError(refused);
        }
        else if (Volatile.Read(ref _writingBack) > 0 && (flags & LibC.O_ACCMODE) == LibC.O_RDONLY)
        {
            // Perhaps our own, which must neither wait for pages nor for what others have dirty.
            request.ReplyOpen(0, OpenFlags() | FuseOpenFlags.KeepCache | FuseOpenFlags.NoFlush);
        }
        else
        {
            if (!_options.KeepCache)
            {
                ForgetReadAhead();
            }

            request.ReplyOpen(BeginUse(flags), OpenFlags());
        }
    }

    /// <summary>None, or why it cannot be opened with these O_* flags.</summary>
    internal Errno RefuseOpen(uint flags) =>
        _options.ReadOnly && (flags & LibC.O_ACCMODE) != LibC.O_RDONLY ? Errno.EROFS : Errno.None;

    /// <summary>Changes attributes.</summary>
    /// <returns>None, or why not. The caller answers.</returns>
    internal Errno TryChange(in FuseSetAttrIn attr)
    {
        Errno refused = attr.Valid.HasFlag(FuseSetAttrValid.Size) ? RefuseSize(attr, _size) : Errno.None;
        if (refused == Errno.None)
        {
            _attributes.Change(attr);
        }

        return refused;
    }

    /// <summary>What stat(2) shows, but for the inode's number.</summary>
    internal FuseAttr Attributes()
    {
        FuseAttr attr = new()
        {
            LinkCount = 1,
            Size = _size,
            Blocks = BlocksOf(0, _size),
            BlockSize = (uint)Math.Clamp(_pool.Export.PreferredBlockBytes, 4096, 1 << 20),
        };
        _attributes.CopyTo(ref attr);
        return attr;
    }

    /// <summary>
    /// A device keeps its size. O_TRUNC and truncate(2) to 0 look alike here and succeed without an effect, as
    /// O_TRUNC does on a block device: dd and cp write to the file that way.
    /// </summary>
    internal Errno RefuseSize(in FuseSetAttrIn attr, ulong size)
    {
        bool isTruncatingOpen = attr.Size == 0 && !attr.Valid.HasFlag(FuseSetAttrValid.Handle);
        return attr.Size == size || isTruncatingOpen ? Errno.None
            : _options.ReadOnly ? Errno.EROFS
            : attr.Size > size ? Errno.EFBIG
            : Errno.EINVAL;
    }

    /// <summary>Reads for ourselves, not for the kernel: any range inside the file, of at most a few MiB.</summary>
    internal Task<Errno> ReadBytes(ulong offset, Memory<byte> destination) => _bytes.ReadAsync(offset, destination);

    private FuseOpenFlags OpenFlags()
    {
        if (_options.Cache == CacheMode.None)
        {
            return FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites;
        }

        // Without KeepCache the kernel drops cached pages at open, those that are dirty one by one after writing
        // them, and waits, unkillably, for those that a READ is about to fill: so never with a writeback cache, and
        // never while a command may be held up by the server. What is read ahead and asked about holes has no such pages.
        bool mustKeep = _options.KeepCache || _options.Cache == CacheMode.Writeback
            || _pool.InFlight > (_readAhead?.UnawaitedCommands ?? 0) + (_extents?.Commands ?? 0);
        return mustKeep ? FuseOpenFlags.KeepCache : FuseOpenFlags.None;
    }
}
