using System.Text;
using Fuse;
using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// One export as one file: in a root directory, or as the root itself. This part answers from memory whatever is
/// not about data; the other parts map data to NBD commands.
/// </summary>
internal sealed unsafe partial class ExportFileSystem : FuseFileSystem
{
    private const ulong RootNode = 1;
    private const ulong FileNodeInDirectory = 2;

    private readonly NbdConnectionPool _pool;
    private readonly ExportFileOptions _options;
    private readonly Action<string> _warn;
    private readonly ulong _size;
    private readonly uint _minimumBlock;
    private readonly uint _maximumRead;
    private readonly uint _maximumWrite;
    private readonly CommandSeries _series;
    private readonly byte[]? _fileName;
    private readonly FileAttributesInMemory _file;
    private readonly FileAttributesInMemory? _directory;

    /// <param name="pool">The export. Its completions may come until it is closed.</param>
    /// <param name="options">How it looks.</param>
    /// <param name="warn">Told what users should know, rarely.</param>
    internal ExportFileSystem(NbdConnectionPool pool, ExportFileOptions options, Action<string> warn)
    {
        _pool = pool;
        _options = options;
        _warn = warn;
        _size = (ulong)pool.Export.SizeBytes;
        _minimumBlock = (uint)pool.Export.MinimumBlockBytes;
        _maximumRead = (uint)pool.MaximumReadBytes;
        _maximumWrite = (uint)pool.Export.MaximumPayloadBytes;
        _series = new CommandSeries(pool);
        uint fileMode = (options.ReadOnly ? 0x124u : 0x1b6u) & ~options.Umask;
        _file = new FileAttributesInMemory((uint)LibC.S_IFREG | fileMode, options.UserId, options.GroupId);
        if (options.FileName is not null)
        {
            uint directoryMode = (options.ReadOnly ? 0x16du : 0x1edu) & ~options.Umask;
            _fileName = Encoding.UTF8.GetBytes(options.FileName);
            _directory = new FileAttributesInMemory(
                (uint)LibC.S_IFDIR | directoryMode, options.UserId, options.GroupId);
        }
    }

    private ulong FileNode => _directory is null ? RootNode : FileNodeInDirectory;

    /// <inheritdoc/>
    protected override void Lookup(FuseRequest request, ReadOnlySpan<byte> name)
    {
        if (_directory is null || request.NodeId != RootNode || !name.SequenceEqual(_fileName))
        {
            request.ReplyError(Errno.ENOENT);
            return;
        }

        request.ReplyEntry(new FuseEntryOut
        {
            NodeId = FileNodeInDirectory,
            EntryValid = (ulong)_options.EntryTimeout.TotalSeconds,
            EntryValidNanoseconds = Nanoseconds(_options.EntryTimeout),
            AttrValid = (ulong)_options.AttrTimeout.TotalSeconds,
            AttrValidNanoseconds = Nanoseconds(_options.AttrTimeout),
            Attr = Attributes(FileNodeInDirectory),
        });
    }

    /// <inheritdoc/>
    protected override void GetAttr(FuseRequest request)
    {
        if (!Exists(request.NodeId))
        {
            request.ReplyError(Errno.ENOENT);
            return;
        }

        ReplyAttributes(request);
    }

    /// <inheritdoc/>
    protected override void SetAttr(FuseRequest request, in FuseSetAttrIn attr)
    {
        if (!Exists(request.NodeId))
        {
            request.ReplyError(Errno.ENOENT);
        }
        else if (attr.Valid.HasFlag(FuseSetAttrValid.Size) && RefuseSize(request.NodeId, attr) is Errno refused
            && refused != Errno.None)
        {
            request.ReplyError(refused);
        }
        else
        {
            (request.NodeId == FileNode ? _file : _directory!).Change(attr);
            ReplyAttributes(request);
        }
    }

    /// <inheritdoc/>
    protected override void Open(FuseRequest request, uint flags)
    {
        if (request.NodeId != FileNode)
        {
            request.ReplyError(Errno.EISDIR);
        }
        else if (_options.ReadOnly && (flags & LibC.O_ACCMODE) != LibC.O_RDONLY)
        {
            request.ReplyError(Errno.EROFS);
        }
        else
        {
            request.ReplyOpen(0, OpenFlags());
        }
    }

    /// <inheritdoc/>
    protected override void Readdir(FuseRequest request, ulong handle, ulong offset, uint size)
    {
        if (_directory is null || request.NodeId != RootNode)
        {
            request.ReplyError(Errno.ENOTDIR);
            return;
        }

        FuseDirectoryWriter entries = new(request, size);
        ReadOnlySpan<byte> name = _fileName;
        _ = (offset >= 1 || entries.TryAdd(RootNode, 1, (uint)LibC.S_IFDIR, "."u8))
            && (offset >= 2 || entries.TryAdd(RootNode, 2, (uint)LibC.S_IFDIR, ".."u8))
            && (offset >= 3 || entries.TryAdd(FileNodeInDirectory, 3, (uint)LibC.S_IFREG, name));
        entries.Reply();
    }

    /// <inheritdoc/>
    protected override void Statfs(FuseRequest request)
    {
        uint block = Math.Max(4096, _minimumBlock);
        request.ReplyStatfs(new FuseStatfsOut
        {
            BlockSize = block,
            FragmentSize = block,
            Blocks = (_size + block - 1) / block,
            Files = _directory is null ? 1u : 2u,
            NameLength = 255,
        });
    }

    private static uint Nanoseconds(TimeSpan time) => (uint)(time.Ticks % TimeSpan.TicksPerSecond * 100);

    /// <summary>
    /// A device keeps its size. O_TRUNC and truncate(2) to 0 look alike here and succeed without an effect, as
    /// O_TRUNC does on a block device: dd and cp write to the file that way.
    /// </summary>
    private Errno RefuseSize(ulong node, in FuseSetAttrIn attr)
    {
        if (node != FileNode)
        {
            return Errno.EISDIR;
        }

        bool isTruncatingOpen = attr.Size == 0 && !attr.Valid.HasFlag(FuseSetAttrValid.Handle);
        return attr.Size == _size || isTruncatingOpen ? Errno.None
            : _options.ReadOnly ? Errno.EROFS
            : attr.Size > _size ? Errno.EFBIG
            : Errno.EINVAL;
    }

    private FuseOpenFlags OpenFlags()
    {
        if (_options.DirectIo)
        {
            return FuseOpenFlags.DirectIo | FuseOpenFlags.ParallelDirectWrites;
        }

        // Without KeepCache the kernel drops cached pages at open, and waits, unkillably, for those that a READ
        // is about to fill: so never while a command may be held up by the server.
        return _options.KeepCache || _pool.InFlight > 0 ? FuseOpenFlags.KeepCache : FuseOpenFlags.None;
    }

    private bool Exists(ulong node) => node == RootNode || node == FileNode;

    private void ReplyAttributes(FuseRequest request) => request.ReplyAttr(new FuseAttrOut
    {
        AttrValid = (ulong)_options.AttrTimeout.TotalSeconds,
        AttrValidNanoseconds = Nanoseconds(_options.AttrTimeout),
        Attr = Attributes(request.NodeId),
    });

    private FuseAttr Attributes(ulong node)
    {
        bool isFile = node == FileNode;
        FuseAttr attr = new()
        {
            Inode = node,
            LinkCount = isFile ? 1u : 2u,
            Size = isFile ? _size : 0,
            Blocks = isFile ? (_size + 511) / 512 : 0,
            BlockSize = (uint)Math.Clamp(_pool.Export.PreferredBlockBytes, 4096, 1 << 20),
        };
        (isFile ? _file : _directory!).CopyTo(ref attr);
        return attr;
    }
}
