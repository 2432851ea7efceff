using Fuse;
using Linux;

namespace UnitTests.FuseTests;

/// <summary>One file in memory: the root itself, or "disk" in a root directory.</summary>
internal sealed unsafe class MemoryFileSystem : FuseFileSystem, IDisposable
{
    private const ulong Root = 1;
    private const uint Directory = 0x4000;
    private const uint RegularFile = 0x8000;
    private readonly NativeBuffer _data;
    private readonly int _size;
    private readonly bool _isFile;

    public MemoryFileSystem(int size, bool isFile)
    {
        _data = new NativeBuffer(size);
        _size = size;
        _isFile = isFile;
    }

    /// <summary>Gets the READs instead of having them done.</summary>
    public Action<FuseRequest>? HeldRead { get; set; }

    /// <summary>Gets the WRITEs instead of having them done.</summary>
    public Action<FuseRequest>? HeldWrite { get; set; }

    public Span<byte> Data => new(_data.Start, _size);

    public void Dispose() => _data.Dispose();

    protected internal override void Lookup(FuseRequest request, ReadOnlySpan<byte> name)
    {
        if (!name.SequenceEqual("disk"u8))
        {
            request.ReplyError(Errno.ENOENT);
            return;
        }

        request.ReplyEntry(new FuseEntryOut { NodeId = 2, EntryValid = 60, AttrValid = 60, Attr = Attr(2) });
    }

    protected internal override void GetAttr(FuseRequest request) =>
        request.ReplyAttr(new FuseAttrOut { AttrValid = 60, Attr = Attr(request.NodeId) });

    protected internal override void SetAttr(FuseRequest request, in FuseSetAttrIn attr) => GetAttr(request);

    protected internal override void Read(FuseRequest request, ulong handle, ulong offset, uint size)
    {
        if (HeldRead is not null)
        {
            HeldRead(request);
            return;
        }

        int length = (int)Math.Min(size, (ulong)_size - Math.Min(offset, (ulong)_size));
        byte* buffer = request.DataBuffer;
        Data.Slice((int)Math.Min(offset, (ulong)_size), length).CopyTo(new Span<byte>(buffer, length));
        request.ReplyData(buffer, (uint)length);
    }

    protected internal override void Write(
        FuseRequest request, ulong handle, ulong offset, byte* payload, uint length, uint openFlags)
    {
        if (HeldWrite is not null)
        {
            HeldWrite(request);
            return;
        }

        if (offset >= (ulong)_size)
        {
            request.ReplyError(Errno.ENOSPC);
            return;
        }

        uint fitting = (uint)Math.Min(length, (ulong)_size - offset);
        new Span<byte>(payload, (int)fitting).CopyTo(Data[(int)offset..]);
        request.ReplyWritten(fitting);
    }

    protected internal override void Fsync(FuseRequest request, ulong handle, bool dataOnly) => request.ReplyEmpty();

    protected internal override void Readdir(FuseRequest request, ulong handle, ulong offset, uint size)
    {
        FuseDirectoryWriter writer = new(request, size);
        _ = offset < 1 && writer.TryAdd(1, 1, Directory, "."u8);
        _ = offset < 2 && writer.TryAdd(1, 2, Directory, ".."u8);
        _ = offset < 3 && writer.TryAdd(2, 3, RegularFile, "disk"u8);
        writer.Reply();
    }

    private FuseAttr Attr(ulong node) => node == Root && !_isFile
        ? new FuseAttr { Inode = node, Mode = Directory | 0x1ed, LinkCount = 2, BlockSize = 4096 }
        : new FuseAttr
        {
            Inode = node,
            Mode = RegularFile | 0x1b6,
            LinkCount = 1,
            Size = (ulong)_size,
            Blocks = (ulong)(_size + 511) / 512,
            BlockSize = 4096,
        };
}
