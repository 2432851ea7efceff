using System.Runtime.CompilerServices;
using Linux;
using Tmds.Linux;

namespace Fuse;

// Each of these methods answers the request and gives the object back. When the request was interrupted they only
// give it back. All are thread-safe in the sense that any one thread may call one of them, once.
public sealed unsafe partial class FuseRequest
{
    private const int HeaderBytes = FuseOutHeader.SizeBytes;

    /// <summary>Answers with an error.</summary>
    /// <param name="error">Not 0; ENOSYS only where it is meant to be remembered by the kernel.</param>
    public void ReplyError(Errno error)
    {
        // The kernel takes 1 to 511 only and would leave anything else unanswered.
        int number = (int)error is > 0 and < 512 ? (int)error : (int)Errno.EIO;
        FuseOutHeader header = new() { Error = -number };
        Finish((byte*)&header, 0);
    }

    /// <summary>Answers with success and no data.</summary>
    public void ReplyEmpty()
    {
        FuseOutHeader header = default;
        Finish((byte*)&header, 0);
    }

    /// <summary>Answers LOOKUP.</summary>
    public void ReplyEntry(in FuseEntryOut entry) => ReplyStruct(entry);

    /// <summary>Answers GETATTR and SETATTR.</summary>
    public void ReplyAttr(in FuseAttrOut attr) => ReplyStruct(attr);

    /// <summary>Answers OPEN and OPENDIR.</summary>
    /// <param name="handle">Comes back with every request on the open file.</param>
    /// <param name="flags">How the kernel shall treat it.</param>
    public void ReplyOpen(ulong handle, FuseOpenFlags flags) =>
        ReplyStruct(new FuseOpenOut { Handle = handle, OpenFlags = flags });

    /// <summary>Answers WRITE.</summary>
    /// <param name="bytes">What was written: more than asked makes an EIO, so does 0.</param>
    public void ReplyWritten(uint bytes) => ReplyStruct(new FuseWriteOut { Size = bytes });

    /// <summary>Answers STATFS.</summary>
    public void ReplyStatfs(in FuseStatfsOut statfs) => ReplyStruct(statfs);

    /// <summary>Answers LSEEK.</summary>
    /// <param name="offset">In bytes, not less than was asked.</param>
    public void ReplyLseek(ulong offset) => ReplyStruct(new FuseLseekOut { Offset = offset });

    /// <summary>Answers COPY_FILE_RANGE and COPY_FILE_RANGE_64.</summary>
    /// <param name="bytes">What was copied.</param>
    public void ReplyCopied(ulong bytes)
    {
        if (Opcode == FuseOpcode.CopyFileRange64)
        {
            ReplyStruct(bytes);
        }
        else
        {
            ReplyStruct(new FuseWriteOut { Size = (uint)Math.Min(bytes, uint.MaxValue) });
        }
    }

    /// <summary>Answers GETXATTR and LISTXATTR that asked for a size only.</summary>
    /// <param name="bytes">Size of the value.</param>
    public void ReplyXattrSize(uint bytes) => ReplyStruct(new FuseGetXattrOut { Size = bytes });

    /// <summary>Answers IOCTL.</summary>
    /// <param name="result">What ioctl(2) returns.</param>
    /// <param name="output">At most the bytes that the request has room for; copied.</param>
    public void ReplyIoctl(int result, ReadOnlySpan<byte> output)
    {
        FuseIoctlOut head = new() { Result = result };
        byte* data = DataBuffer;
        *(FuseIoctlOut*)data = head;
        output.CopyTo(new Span<byte>(data + sizeof(FuseIoctlOut), DataCapacity - sizeof(FuseIoctlOut)));
        ReplyData(data, (uint)(sizeof(FuseIoctlOut) + output.Length));
    }

    /// <summary>Answers with data that is copied: for small things.</summary>
    /// <param name="data">At most what was asked for.</param>
    public void ReplyBytes(ReadOnlySpan<byte> data)
    {
        byte* buffer = DataBuffer;
        data.CopyTo(new Span<byte>(buffer, DataCapacity));
        ReplyData(buffer, (uint)data.Length);
    }

    /// <summary>
    /// Answers with data, without a copy: the 16 bytes before <paramref name="payload"/> are overwritten with the
    /// out-header, and both go out in one write(2).
    /// </summary>
    /// <param name="payload">
    /// The caller's memory, writable from 16 bytes before on; free again when this method returns.
    /// <see cref="DataBuffer"/> is such memory.
    /// </param>
    /// <param name="length">Bytes of data, at most what was asked for.</param>
    public void ReplyData(byte* payload, uint length)
    {
        byte* frame = payload - HeaderBytes;
        Unsafe.InitBlockUnaligned(frame, 0, HeaderBytes);
        Finish(frame, length);
    }

    /// <summary>Answers with data that lies in parts, without a copy and without a change to them.</summary>
    /// <param name="parts">
    /// The first element is ours, for the out-header; then the data, in the order of the file. All of it is free again
    /// when this method returns.
    /// </param>
    /// <param name="count">Number of elements, at least 2 and at most 1024.</param>
    /// <param name="length">Bytes of data, at most what was asked for.</param>
    public void ReplyParts(iovec* parts, int count, uint length)
    {
        FuseOutHeader header = default;
        parts[0] = new iovec { iov_base = &header, iov_len = HeaderBytes };
        Finish((byte*)&header, length, parts, count);
    }

    private void ReplyStruct<T>(T body)
        where T : unmanaged
    {
        byte* frame = stackalloc byte[HeaderBytes + sizeof(T)];
        Unsafe.WriteUnaligned(frame, default(FuseOutHeader));
        Unsafe.WriteUnaligned(frame + HeaderBytes, body);
        Finish(frame, (uint)sizeof(T));
    }

    /// <summary>Sends the frame unless the request was answered already, and gives the object back.</summary>
    /// <param name="frame">The out-header, with its error; the body follows it unless there are parts.</param>
    /// <param name="bodyBytes">Bytes of the body.</param>
    /// <param name="parts">The whole reply, the frame first; null if it lies in one piece.</param>
    /// <param name="partCount">Number of parts.</param>
    private void Finish(byte* frame, uint bodyBytes, iovec* parts = null, int partCount = 0)
    {
        ulong unique = Unique;
        if (Volatile.Read(ref _taken) != unique)
        {
            throw new InvalidOperationException($"{Opcode} was answered twice");
        }

        FuseChannel channel = _channel;
        bool isOurs = Interlocked.CompareExchange(ref _pending, 0, unique) == unique;
        if (isOurs)
        {
            int error = Unsafe.ReadUnaligned<FuseOutHeader>(frame).Error;
            Unsafe.WriteUnaligned(
                frame,
                new FuseOutHeader { Length = HeaderBytes + bodyBytes, Error = error, Unique = unique });
            _ = parts is null
                ? _pool.Replies.Send(channel, frame, HeaderBytes + bodyBytes, Opcode)
                : _pool.Replies.Send(channel, parts, partCount, Opcode);
        }

        // A channel that keeps the object may have begun the next request with it already: then nothing is swapped.
        bool isFree = Interlocked.CompareExchange(ref _taken, 0, unique) == unique;
        if (isFree && !(isOurs && channel.KeepsRequests))
        {
            _pool.Return(this);
        }
    }
}
