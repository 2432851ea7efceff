using System.Text;
using Fuse;
using Linux;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// The tree of a mount: a root directory with one file in it, or the file as the root itself. What is about the file
/// goes on to <see cref="ExportFile"/>.
/// </summary>
internal sealed unsafe class ExportFileSystem : FuseFileSystem
{
    private const ulong RootNode = 1;
    private const ulong FileNodeInDirectory = 2;

    private readonly ExportFile _file;
    private readonly ExportFileOptions _options;
    private readonly byte[]? _fileName;
    private readonly FileAttributesInMemory? _directory;

    // False for a kernel that would ask for one of them before each write, without HANDLE_KILLPRIV_V2: it is told that
    // there are none.
    private bool _hasXattrs;

    /// <param name="file">The file.</param>
    /// <param name="options">How it looks.</param>
    internal ExportFileSystem(ExportFile file, ExportFileOptions options)
    {
        (_file, _options) = (file, options);
        if (options.FileName is not null)
        {
            uint directoryMode = (options.ReadOnly ? 0x16du : 0x1edu) & ~options.Umask;
            _fileName = Encoding.UTF8.GetBytes(options.FileName);
            _directory = new FileAttributesInMemory(
                (uint)LibC.S_IFDIR | directoryMode, options.UserId, options.GroupId);
        }
    }

    /// <summary>To be called once the kernel has agreed on the session, before requests are served.</summary>
    /// <param name="session">It.</param>
    /// <param name="path">Where the file is.</param>
    /// <param name="device">"MAJOR:MINOR" of the mount; null if it was handed over.</param>
    internal void Attach(FuseSession session, string path, string? device)
    {
        _hasXattrs = session.Limits.Flags.HasFlag(FuseInitFlags.HandleKillPrivV2);
        _file.Kernel = new KernelCache(session, FileNode, path, device);
        if (_directory is null && _options.Cache == CacheMode.Writeback)
        {
            // With a writeback cache the kernel believes nobody but itself, and makes a root with size 0.
            _ = session.NotifySize(RootNode, (long)_file.SizeBytes);
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

        if (IsForbidden(request))
        {
            request.ReplyError(Errno.EACCES);
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
        }
        else if (request.NodeId == FileNode && _file.RefusesWriter(request))
        {
            request.ReplyError(Errno.ENOSPC);
        }
        else
        {
            ReplyAttributes(request);
        }
    }

    /// <inheritdoc/>
    protected override void SetAttr(FuseRequest request, in FuseSetAttrIn attr)
    {
        Errno refused = !Exists(request.NodeId) ? Errno.ENOENT
            : IsForbidden(request) ? Errno.EACCES
            : request.NodeId == FileNode ? _file.TryChange(attr)
            : TryChangeDirectory(attr);
        if (refused == Errno.None)
        {
            ReplyAttributes(request);
        }
        else
        {
            request.ReplyError(refused);
        }
    }

    /// <inheritdoc/>
    protected override void Open(FuseRequest request, uint flags)
    {
        if (IsForbidden(request))
        {
            request.ReplyError(Errno.EACCES);
        }
        else if (request.NodeId != FileNode)
        {
            request.ReplyError(Errno.EISDIR);
        }
        else
        {
            _file.Open(request, flags);
        }
    }

    /// <inheritdoc/>
    protected override void Opendir(FuseRequest request, uint flags)
    {
        if (IsForbidden(request))
        {
            request.ReplyError(Errno.EACCES);
        }
        else
        {
            request.ReplyOpen(0, FuseOpenFlags.None);
        }
    }

    /// <inheritdoc/>
    protected override void Flush(FuseRequest request, ulong handle) => _file.Flush(request);

    /// <inheritdoc/>
    protected override void Read(FuseRequest request, ulong handle, ulong offset, uint size) =>
        _file.Read(request, offset, size);

    /// <inheritdoc/>
    protected override void Write(
        FuseRequest request, ulong handle, ulong offset, byte* payload, uint length, uint openFlags) =>
        _file.Write(request, offset, payload, length, openFlags);

    /// <inheritdoc/>
    protected override void Fsync(FuseRequest request, ulong handle, bool dataOnly) => _file.Fsync(request);

    /// <inheritdoc/>
    protected override void Fallocate(FuseRequest request, ulong handle, uint mode, ulong offset, ulong length) =>
        _file.Fallocate(request, mode, offset, length);

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
        uint block = Math.Max(4096, _file.MinimumBlockBytes);
        request.ReplyStatfs(new FuseStatfsOut
        {
            BlockSize = block,
            FragmentSize = block,
            Blocks = (_file.SizeBytes + block - 1) / block,
            Files = _directory is null ? 1u : 2u,
            NameLength = 255,
        });
    }

    /// <inheritdoc/>
    protected override void GetXattr(FuseRequest request, ReadOnlySpan<byte> name, uint size)
    {
        if (!_hasXattrs)
        {
            request.ReplyError(Errno.ENOSYS);
        }
        else if (request.NodeId != FileNode || IsForbidden(request))
        {
            request.ReplyError(Errno.ENODATA);
        }
        else
        {
            _file.GetXattr(request, name, size);
        }
    }

    /// <inheritdoc/>
    protected override void ListXattr(FuseRequest request, uint size)
    {
        if (!_hasXattrs)
        {
            request.ReplyError(Errno.ENOSYS);
        }
        else if (request.NodeId == FileNode && !IsForbidden(request))
        {
            _file.ListXattr(request, size);
        }
        else if (size == 0)
        {
            request.ReplyXattrSize(0);
        }
        else
        {
            request.ReplyEmpty();
        }
    }

    /// <inheritdoc/>
    protected override void SetXattr(
        FuseRequest request, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, uint flags) =>
        ExportFile.ChangeXattr(request, name);

    /// <inheritdoc/>
    protected override void RemoveXattr(FuseRequest request, ReadOnlySpan<byte> name) => ExportFile.ChangeXattr(request, name);

    private static uint Nanoseconds(TimeSpan time) => (uint)(time.Ticks % TimeSpan.TicksPerSecond * 100);

    private Errno TryChangeDirectory(in FuseSetAttrIn attr)
    {
        if (attr.Valid.HasFlag(FuseSetAttrValid.Size))
        {
            return Errno.EISDIR;
        }

        _directory!.Change(attr);
        return Errno.None;
    }

    // -o allow_root. What is open stays open, and what the kernel remembers it tells without asking.
    private bool IsForbidden(FuseRequest request) =>
        _options.OnlyUserId is uint user && request.UserId != user && request.UserId != 0;

    private bool Exists(ulong node) => node == RootNode || node == FileNode;

    private void ReplyAttributes(FuseRequest request) => request.ReplyAttr(new FuseAttrOut
    {
        AttrValid = (ulong)_options.AttrTimeout.TotalSeconds,
        AttrValidNanoseconds = Nanoseconds(_options.AttrTimeout),
        Attr = Attributes(request.NodeId),
    });

    private FuseAttr Attributes(ulong node)
    {
        FuseAttr attr;
        if (node == FileNode)
        {
            attr = _file.Attributes();
        }
        else
        {
            attr = new FuseAttr { LinkCount = 2, BlockSize = 4096 };
            _directory!.CopyTo(ref attr);
        }

        attr.Inode = node;
        return attr;
    }
}
