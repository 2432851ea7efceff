using Nbd.Protocol;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// One request from its header to the last byte of its reply. Pooled by its connection's <see cref="RequestTable"/>.
/// It belongs to the connection's thread until the backend's task ends, then to whoever saw that end, then to the
/// sender.
/// </summary>
internal sealed unsafe class ServerRequest
{
    /// <summary>Data up to this size lie in the request's own memory.</summary>
    public const int OwnPayloadBytes = 16 * 1024;

    /// <summary>Memory for headers and vectors of a reply.</summary>
    public const int ReplyBytes = 4096;

    /// <summary>Most pieces of a reply.</summary>
    public const int MaximumSegments = 64;

    private const int HeaderBytes = ReplyBytes - (MaximumSegments * 16);

    private readonly byte* _headers;
    private int _headerBytes;

    /// <param name="payload">Its own memory for data.</param>
    /// <param name="payloadStart">Where that lies.</param>
    /// <param name="reply">Memory of <see cref="ReplyBytes"/>.</param>
    /// <param name="completed">Called when <see cref="Pending"/> ended after a wait.</param>
    public ServerRequest(Memory<byte> payload, byte* payloadStart, byte* reply, Action<ServerRequest> completed)
    {
        OwnPayload = payload;
        OwnPayloadStart = payloadStart;
        Segments = (iovec*)reply;
        _headers = reply + (MaximumSegments * sizeof(iovec));
        Completed = () => completed(this);
    }

    /// <summary>What the client sent. For BLOCK_STATUS with a payload, the length is that of the range.</summary>
    public NbdRequestHeader Header { get; set; }

    /// <summary>The data of a READ or WRITE.</summary>
    public Memory<byte> Payload { get; private set; }

    public byte* PayloadStart { get; private set; }

    /// <summary>The answer to BLOCK_STATUS, or the holes of a READ.</summary>
    public NbdExtentList Extents { get; } = new();

    /// <summary>Whether the data of a READ come in the pieces that <see cref="Extents"/> names.</summary>
    public bool IsFragmented { get; set; }

    /// <summary>The backend's task while it runs.</summary>
    public ValueTask Pending { get; set; }

    /// <summary>Made once, so that waiting allocates nothing.</summary>
    public Action Completed { get; }

    /// <summary>The pieces of the reply, in order.</summary>
    public iovec* Segments { get; }

    public int SegmentCount { get; private set; }

    /// <summary>Length of the reply in bytes.</summary>
    public long ReplyLength { get; private set; }

    /// <summary>The next in the sender's queue or among the free ones.</summary>
    public ServerRequest? Next { get; set; }

    /// <summary>Memory from the pool, if its own did not do.</summary>
    public NativeMemory? Rented { get; set; }

    private Memory<byte> OwnPayload { get; }

    private byte* OwnPayloadStart { get; }

    /// <summary>Sets the data's memory: that which was rented, or its own.</summary>
    public void UsePayload(int length)
    {
        Payload = (Rented?.Whole ?? OwnPayload)[..length];
        PayloadStart = Rented is null ? OwnPayloadStart : Rented.Start;
    }

    /// <summary>Forgets a reply.</summary>
    public void BeginReply()
    {
        SegmentCount = 0;
        ReplyLength = 0;
        _headerBytes = 0;
    }

    /// <summary>Takes the next bytes of the memory for headers, and adds them to the reply.</summary>
    public Span<byte> AddHeader(int length)
    {
        if (_headerBytes + length > HeaderBytes)
        {
            throw new InvalidOperationException("the headers of a reply do not fit");
        }

        byte* start = _headers + _headerBytes;
        _headerBytes += length;
        Add(start, length);
        return new Span<byte>(start, length);
    }

    /// <summary>Adds a part of the payload to the reply.</summary>
    public void AddPayload(int start, int length) => Add(PayloadStart + start, length);

    private void Add(byte* start, int length)
    {
        ReplyLength += length;
        // Two headers in a row are one piece.
        if (SegmentCount > 0)
        {
            iovec* last = Segments + SegmentCount - 1;
            if ((byte*)last->iov_base + (ulong)last->iov_len == start)
            {
                last->iov_len = (int)(last->iov_len + (ulong)length);
                return;
            }
        }

        Segments[SegmentCount++] = new() { iov_base = start, iov_len = length };
    }
}
