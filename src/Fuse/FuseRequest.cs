using Linux;

namespace Fuse;

/// <summary>
/// One request of the kernel, from its arrival to its reply. Objects are reused: a reply method gives the object
/// back, and nothing of it may be touched after that.
/// </summary>
/// <remarks>
/// Life: the worker that read the request publishes it by setting <c>_pending</c> and <c>_taken</c> to its unique.
/// Whoever swaps <c>_pending</c> back to 0 is the one that answers: the file system, or an INTERRUPT, which answers
/// EINTR at once. Swapping <c>_taken</c> back to 0 is the file system's alone and gives object and buffer back: an
/// interrupted request keeps both until the file system is done with it. A unique is never used twice.
/// Everything but these two words belongs to one thread at a time.
/// </remarks>
public sealed unsafe partial class FuseRequest
{
    private readonly FuseRequestPool _pool;
    private readonly NativeBuffer _buffer;
    private FuseChannel _channel = null!;
    private ulong _pending;
    private ulong _taken;
    private uint _expectedDataBytes;

    internal FuseRequest(FuseRequestPool pool, int index, NativeBuffer buffer)
    {
        _pool = pool;
        Index = index;
        _buffer = buffer;
        Frame = buffer.Start;
    }

    /// <summary>The kernel's number of the request. Never used twice in a session.</summary>
    public ulong Unique { get; private set; }

    /// <summary>The node that the request is about; 1 is the root.</summary>
    public ulong NodeId { get; private set; }

    /// <summary>What is asked for.</summary>
    public FuseOpcode Opcode { get; private set; }

    /// <summary>User of the caller.</summary>
    public uint UserId { get; private set; }

    /// <summary>Group of the caller.</summary>
    public uint GroupId { get; private set; }

    /// <summary>Process of the caller; 0 when the kernel itself asks, or when our PID namespace cannot see it.</summary>
    public uint ProcessId { get; private set; }

    /// <summary>
    /// Of a WRITE: pages of the kernel's cache that it writes back by itself, some time after a program changed them.
    /// </summary>
    public bool IsWriteback { get; internal set; }

    /// <summary>Of a READ: the program opened the file with O_DIRECT, so it is the program itself that asks.</summary>
    public bool IsDirect { get; internal set; }

    /// <summary>
    /// Of a GETATTR: the kernel asks for an open file, for example before a cached write(2), not for stat(2).
    /// </summary>
    public bool IsForOpenFile { get; internal set; }

    /// <summary>
    /// Whatever the file system keeps for a request. It stays when the object is reused, so that the file system
    /// need not allocate for each request.
    /// </summary>
    public object? Attachment { get; set; }

    /// <summary>
    /// Whether somebody still waits for the reply. False once an INTERRUPT was answered: what is not yet begun
    /// need not be done. May become false at any time.
    /// </summary>
    public bool IsPending => Volatile.Read(ref _pending) != 0;

    /// <summary>
    /// Room for <see cref="DataCapacity"/> bytes, page aligned, with writable bytes before it, as
    /// <see cref="ReplyData"/> wants them. Overwrites the request's names and payload.
    /// </summary>
    public byte* DataBuffer
    {
        get
        {
            TouchData((int)_expectedDataBytes);
            return Data;
        }
    }

    /// <summary>
    /// Whether the kernel takes data from <see cref="DataBuffer"/> as it lies there, and from elsewhere only after a copy
    /// to there.
    /// </summary>
    public bool IsDataBufferShared => _channel.KeepsRequests;

    /// <summary>The shared memory that a WRITE's payload starts a page of; null if it does not.</summary>
    /// <param name="payload">Of the request.</param>
    /// <param name="offset">Where it is in the memory.</param>
    public SharedMemory? MemoryOf(byte* payload, out long offset)
    {
        offset = _pool.OffsetOf(this) + _pool.DataOffset;
        return payload == Data ? _pool.Memory : null;
    }

    /// <summary>Size of <see cref="DataBuffer"/> in bytes: the largest READ fits.</summary>
    public int DataCapacity => _buffer.Length - _pool.DataOffset;

    /// <summary>Place in the pool.</summary>
    internal int Index { get; }

    /// <summary>Index + 1 of the next idle request, 0 for none. Belongs to the pool while the request is idle.</summary>
    internal int NextIdle;

    /// <summary>How far into the buffer memory may be in use.</summary>
    internal int TouchedBytes { get; set; }

    /// <summary>Memory to read a request into.</summary>
    internal byte* Buffer => _buffer.Start;

    /// <summary>The request as the kernel sent it: in the memory that starts with <see cref="Buffer"/>.</summary>
    internal byte* Frame { get; set; }

    /// <summary>Where <see cref="DataBuffer"/> is.</summary>
    internal byte* Data => _buffer.Start + _pool.DataOffset;

    /// <summary>The unique while the request is unanswered, else 0.</summary>
    internal ulong Pending => Volatile.Read(ref _pending);

    /// <summary>
    /// Whether the thread that waits is to end, as far as can be known: one outside our PID namespace has no number.
    /// </summary>
    internal bool IsRequesterEnding => ProcessId == 0 || ProcessSignals.IsEnding(ProcessId);

    /// <summary>Whether the file system is not done with the request.</summary>
    internal bool IsTaken => Volatile.Read(ref _taken) != 0;

    /// <summary>Publishes a request that wants a reply.</summary>
    /// <param name="channel">Where it was read.</param>
    /// <param name="header">Its header.</param>
    /// <param name="expectedDataBytes">Most data that its reply can have.</param>
    internal void Begin(FuseChannel channel, in FuseInHeader header, uint expectedDataBytes)
    {
        _channel = channel;
        _expectedDataBytes = Math.Min(expectedDataBytes, (uint)DataCapacity);
        Unique = header.Unique;
        NodeId = header.NodeId;
        Opcode = header.Opcode;
        UserId = header.UserId;
        GroupId = header.GroupId;
        ProcessId = header.ProcessId;
        Volatile.Write(ref _taken, header.Unique);
        Volatile.Write(ref _pending, header.Unique);
    }

    /// <summary>
    /// Answers the request from outside the file system, if it is the one named <paramref name="unique"/> and still
    /// unanswered. The file system's own reply will then send nothing.
    /// </summary>
    internal bool TryAnswerInstead(ulong unique, Errno error)
    {
        if (Volatile.Read(ref _pending) != unique)
        {
            return false;
        }

        // Read before the claim: it cannot change while the request is pending, but may right after.
        FuseChannel channel = _channel;
        if (Interlocked.CompareExchange(ref _pending, 0, unique) != unique)
        {
            return false;
        }

        _pool.Replies.SendInstead(channel, unique, error);
        return true;
    }

    /// <summary>Answers whatever request this is, if it is unanswered.</summary>
    internal bool TryAnswerInstead(Errno error)
    {
        ulong unique = Volatile.Read(ref _pending);
        return unique != 0 && TryAnswerInstead(unique, error);
    }

    /// <summary>
    /// After the file system threw: answers EIO unless it has replied, and gives the object back unless it has.
    /// </summary>
    internal void Abandon(ulong unique)
    {
        _ = TryAnswerInstead(unique, Errno.EIO);
        if (Interlocked.CompareExchange(ref _taken, 0, unique) == unique)
        {
            _pool.Return(this);
        }
    }

    /// <summary>So many bytes of <see cref="Data"/> may be in use.</summary>
    internal void TouchData(int bytes) => TouchedBytes = Math.Max(TouchedBytes, _pool.DataOffset + bytes);

    /// <summary>Gives the memory of the buffer back, but for its first pages.</summary>
    /// <param name="dataBytes">So much of the data stays, rounded up to whole pages.</param>
    internal void Decommit(int dataBytes = 0)
    {
        int pageMask = Environment.SystemPageSize - 1;
        int kept = _pool.DataOffset + ((dataBytes + pageMask) & ~pageMask);
        _buffer.Decommit(kept);
        TouchedBytes = Math.Min(TouchedBytes, kept);
    }

    /// <summary>Frees the buffer: only when nobody uses the request any more.</summary>
    internal void FreeBuffer() => _buffer.Dispose();
}
