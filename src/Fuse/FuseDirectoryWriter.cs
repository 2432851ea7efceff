using System.Runtime.CompilerServices;

namespace Fuse;

/// <summary>Packs the answer to a READDIR into the request's own buffer.</summary>
public unsafe ref struct FuseDirectoryWriter
{
    private const int Alignment = 8;
    private const int TypeShift = 12;

    private readonly FuseRequest _request;
    private readonly byte* _start;
    private readonly int _size;
    private int _length;

    /// <summary>Starts an empty answer.</summary>
    /// <param name="request">A READDIR.</param>
    /// <param name="size">Most bytes, as the request asks.</param>
    public FuseDirectoryWriter(FuseRequest request, uint size)
    {
        ArgumentNullException.ThrowIfNull(request);
        _request = request;
        _start = request.DataBuffer;
        _size = (int)Math.Min(size, (uint)request.DataCapacity);
        _length = 0;
    }

    /// <summary>Bytes so far.</summary>
    public readonly int Length => _length;

    /// <summary>Adds an entry if it fits.</summary>
    /// <param name="inode">Not 0: the kernel's readers drop such entries.</param>
    /// <param name="nextOffset">The cookie from which the listing goes on after this entry; not 0.</param>
    /// <param name="mode">File type (S_IFREG, S_IFDIR), permissions are ignored.</param>
    /// <param name="name">1 to 255 bytes without NUL and slash.</param>
    /// <returns>False when there is no room: reply what there is, the kernel asks again.</returns>
    public bool TryAdd(ulong inode, ulong nextOffset, uint mode, ReadOnlySpan<byte> name)
    {
        int used = FuseDirent.SizeBytes + name.Length;
        int padded = (used + Alignment - 1) / Alignment * Alignment;
        if (padded > _size - _length)
        {
            return false;
        }

        byte* entry = _start + _length;
        Unsafe.WriteUnaligned(entry, new FuseDirent
        {
            Inode = inode,
            Offset = nextOffset,
            NameLength = (uint)name.Length,
            Type = mode >> TypeShift,
        });
        name.CopyTo(new Span<byte>(entry + FuseDirent.SizeBytes, name.Length));
        new Span<byte>(entry + used, padded - used).Clear();
        _length += padded;
        return true;
    }

    /// <summary>Answers the request with the entries added; none means the end.</summary>
    public readonly void Reply() => _request.ReplyData(_start, (uint)_length);
}
