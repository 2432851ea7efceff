using System.Collections.Concurrent;
using System.Globalization;
using Fuse;
using Linux;
using Tmds.Linux;

namespace UnitTests.FuseTests;

/// <summary>Keeps the replies instead of a kernel.</summary>
internal sealed unsafe class FakeChannel : FuseChannel
{
    public ConcurrentQueue<byte[]> Replies { get; } = new();

    public Errno Result { get; set; }

    /// <summary>Whether requests keep the memory that the kernel takes data from, as over io_uring.</summary>
    public bool Keeps { get; init; }

    internal override bool KeepsRequests => Keeps;

    /// <summary>The replies in hexadecimal digits, oldest first; taken out.</summary>
    public string[] Take()
    {
        List<string> taken = [];
        while (Replies.TryDequeue(out byte[]? reply))
        {
            taken.Add(Convert.ToHexStringLower(reply));
        }

        return [.. taken];
    }

    internal override Errno Send(byte* frame, uint length)
    {
        Replies.Enqueue(new ReadOnlySpan<byte>(frame, (int)length).ToArray());
        return Result;
    }

    internal override Errno Send(iovec* parts, int count)
    {
        List<byte> reply = [];
        for (int i = 0; i < count; i++)
        {
            reply.AddRange(new ReadOnlySpan<byte>(parts[i].iov_base, (int)parts[i].iov_len));
        }

        Replies.Enqueue([.. reply]);
        return Result;
    }
}

/// <summary>A dispatcher between a file system and fake channels, fed with bytes as the kernel sends them.</summary>
internal sealed unsafe class FakeKernel : IDisposable
{
    private readonly FuseDispatcher _dispatcher;

    public FakeKernel(
        FuseFileSystem fileSystem, int bound = 64, int largestDataBytes = 64 << 10, bool keepsRequests = false)
    {
        Channel = new() { Keeps = keepsRequests };
        FuseWarnings warnings = new(Warnings.Enqueue);
        Pool = new FuseRequestPool(largestDataBytes, new FuseReplySender(warnings, null), bound);
        _dispatcher = new FuseDispatcher(fileSystem, Pool, warnings, null, [Channel, OtherChannel]);
    }

    public FakeChannel Channel { get; }

    /// <summary>A process number that there never is: the requester is gone.</summary>
    public const uint NoProcess = int.MaxValue;

    public FakeChannel OtherChannel { get; } = new();

    public ConcurrentQueue<string> Warnings { get; } = new();

    public FuseRequestPool Pool { get; }

    public void Dispose() => Pool.Dispose();

    /// <summary>A request: header and body, the length filled in.</summary>
    /// <param name="opcode">What is asked for.</param>
    /// <param name="unique">Its number.</param>
    /// <param name="bodyHex">What follows the header.</param>
    /// <param name="requester">The thread that waits for the reply.</param>
    public static byte[] Request(FuseOpcode opcode, ulong unique, string bodyHex = "", uint requester = NoProcess)
    {
        byte[] body = Convert.FromHexString(bodyHex.Replace(" ", "", StringComparison.Ordinal));
        byte[] request = new byte[FuseInHeader.SizeBytes + body.Length];
        fixed (byte* start = request)
        {
            *(FuseInHeader*)start = new FuseInHeader
            {
                Length = (uint)request.Length,
                Opcode = opcode,
                Unique = unique,
                NodeId = 2,
                UserId = 1000,
                GroupId = 100,
                ProcessId = requester,
            };
        }

        body.CopyTo(request, FuseInHeader.SizeBytes);
        return request;
    }

    public static byte[] Interrupt(ulong target) => Request(FuseOpcode.Interrupt, target | 1, Hex(target));

    public static string Hex(ulong number) =>
        Convert.ToHexStringLower(BitConverter.GetBytes(number)).ToString(CultureInfo.InvariantCulture);

    /// <summary>An error reply in hexadecimal digits.</summary>
    public static string Error(Errno error, ulong unique) =>
        "10000000" + Convert.ToHexStringLower(BitConverter.GetBytes(-(int)error)) + Hex(unique);

    /// <summary>Dispatches as a worker does.</summary>
    public void Send(ReadOnlySpan<byte> bytes, FakeChannel? channel = null)
    {
        FuseRequest request = Pool.Rent()!;
        bytes.CopyTo(new Span<byte>(request.Buffer, bytes.Length));
        if (!_dispatcher.Dispatch(request, channel ?? Channel, bytes.Length))
        {
            Pool.Return(request);
        }
    }

    /// <summary>Sends and takes the replies.</summary>
    public string[] Ask(ReadOnlySpan<byte> bytes)
    {
        Send(bytes);
        return Channel.Take();
    }
}

/// <summary>Keeps READs for the test to answer; everything else as the base class has it.</summary>
internal class HoldingFileSystem : FuseFileSystem
{
    private readonly ConcurrentQueue<FuseRequest> _held = new();

    /// <summary>The READ that has waited longest.</summary>
    public FuseRequest TakeHeld() =>
        _held.TryDequeue(out FuseRequest? request) ? request : throw new InvalidOperationException("no READ is held");

    protected internal override void GetAttr(FuseRequest request) => request.ReplyAttr(default);

    protected internal override void Read(FuseRequest request, ulong handle, ulong offset, uint size) =>
        _held.Enqueue(request);
}
