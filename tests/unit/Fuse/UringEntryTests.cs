using System.Collections.Concurrent;
using System.IO.Pipes;
using System.Text;
using Fuse;
using Linux;

namespace UnitTests.FuseTests;

/// <summary>
/// An entry on a real ring, filled as the kernel fills it. The device is a pipe, which takes no commits: each is told, as
/// a warning.
/// </summary>
public sealed unsafe class UringEntryTests
{
    [Fact]
    public void A_device_that_takes_no_entries_is_told()
    {
        using Rig rig = new(new HoldingFileSystem());

        Assert.Equal(Errno.EOPNOTSUPP, rig.Refusal?.Errno);
        Assert.False(rig.Queues.IsAlive);
    }

    [Fact]
    public void The_parts_of_a_write_are_put_together()
    {
        RecordingFileSystem files = new();
        using Rig rig = new(files);

        rig.Arrive(Write(10, 0x1000, 5), "hello"u8);

        Assert.Equal((0x1000ul, "hello"), files.Written.Single());
        Assert.Equal(0, rig.Header->Out.Error);
        Assert.Equal(10u, rig.Header->Out.Unique);
        Assert.Equal(8u, rig.Header->PayloadBytes);
        Assert.Equal(5u, *(uint*)rig.Payload);
    }

    [Fact]
    public void A_reply_of_the_rings_own_thread_is_committed()
    {
        HoldingFileSystem files = new();
        using Rig rig = new(files);
        rig.Arrive(DispatcherTests.Read(10));

        rig.OnRing(() => files.TakeHeld().ReplyBytes("data"u8));

        rig.WaitForCommit();
        Assert.Equal((0, 10ul, 4u), rig.Reply);
        Assert.Equal("data"u8, new ReadOnlySpan<byte>(rig.Payload, 4));
        Assert.Equal(0, rig.Pool.Taken);
    }

    [Fact]
    public void A_reply_of_another_thread_is_committed_by_the_rings()
    {
        HoldingFileSystem files = new();
        using Rig rig = new(files);
        rig.Arrive(DispatcherTests.Read(10));

        files.TakeHeld().ReplyBytes("data"u8);

        rig.WaitForCommit();
        Assert.Equal((0, 10ul, 4u), rig.Reply);
        Assert.Equal("data"u8, new ReadOnlySpan<byte>(rig.Payload, 4));

        // The object stays with the entry.
        Assert.Equal(rig.ObjectsAtFirst, rig.Pool.Allocated);
        rig.Arrive(DispatcherTests.Read(12));
        files.TakeHeld().ReplyError(Errno.EPERM);
        Assert.True(SpinWait.SpinUntil(() => rig.Reply == (-(int)Errno.EPERM, 12ul, 0u), Rig.Limit));
    }

    [Fact]
    public void When_the_answer_is_given_instead_the_file_system_keeps_the_memory_and_the_entry_gets_other()
    {
        HoldingFileSystem files = new();
        using Rig rig = new(files);
        rig.Arrive(DispatcherTests.Read(10));
        FuseRequest late = files.TakeHeld();
        late.DataBuffer[0] = 0xaa;

        Assert.True(rig.Pool.TryInterrupt(10));
        rig.WaitForCommit();
        Assert.Equal((-(int)Errno.EINTR, 10ul, 0u), rig.Reply);

        rig.Arrive(DispatcherTests.Read(12));
        FuseRequest next = files.TakeHeld();
        Assert.NotSame(late, next);
        next.DataBuffer[0] = 0xbb;
        late.DataBuffer[0] = 0xcc;
        Assert.Equal(0xbb, rig.Payload[0]);

        late.ReplyBytes("too late"u8);
        rig.OnRing(() => { });
        Assert.Equal(FuseOpcode.Read, rig.Header->In.Opcode);
        Assert.Equal(0xbb, rig.Payload[0]);
        Assert.Equal(1, rig.Pool.Taken);
        next.ReplyBytes("x"u8);
        rig.OnRing(() => { });
        Assert.Equal((0, 12ul, 1u), rig.Reply);
        Assert.Equal((byte)'x', rig.Payload[0]);
        Assert.Equal(0, rig.Pool.Taken);
    }

    // Lengths of the header and of the payload that do not belong together.
    [Theory]
    [InlineData(0u, 0u)]
    [InlineData(39u, 0u)]
    [InlineData(40u, 1u)]
    [InlineData(40u + 129, 0u)]
    [InlineData(uint.MaxValue, 0u)]
    [InlineData(80u, uint.MaxValue)]
    [InlineData(uint.MaxValue, uint.MaxValue - 80)]
    [InlineData(40u + (1 << 20), 1u << 20)]
    public void Lengths_that_cannot_be_are_answered_with_an_error(uint length, uint payloadBytes)
    {
        HoldingFileSystem files = new();
        using Rig rig = new(files);

        rig.Arrive(DispatcherTests.Read(10), length: length, payloadBytes: payloadBytes);

        Assert.Equal((-(int)Errno.EIO, 10ul, 0u), rig.Reply);
        Assert.Throws<InvalidOperationException>(files.TakeHeld);
        Assert.Contains(rig.Warnings, warning => warning.Contains("malformed", StringComparison.Ordinal));
    }

    // The header says what the body is not: the opcode's own check finds it.
    [Fact]
    public void A_body_that_is_too_short_is_answered_with_an_error()
    {
        HoldingFileSystem files = new();
        using Rig rig = new(files);

        rig.Arrive(DispatcherTests.Read(10), length: FuseInHeader.SizeBytes + 8);

        Assert.Equal((-(int)Errno.EIO, 10ul, 0u), rig.Reply);
        Assert.Throws<InvalidOperationException>(files.TakeHeld);
    }

    private static byte[] Write(ulong unique, ulong offset, uint size) => FakeKernel.Request(
        FuseOpcode.Write,
        unique,
        new string('0', 16) + FakeKernel.Hex(offset) + Convert.ToHexString(BitConverter.GetBytes(size)) + new string('0', 40));

    private sealed class RecordingFileSystem : HoldingFileSystem
    {
        public ConcurrentQueue<(ulong Offset, string Data)> Written { get; } = new();

        protected internal override void Write(
            FuseRequest request, ulong handle, ulong offset, byte* payload, uint length, uint openFlags)
        {
            Written.Enqueue((offset, Encoding.ASCII.GetString(payload, (int)length)));
            request.ReplyWritten(length);
        }
    }

    /// <summary>One entry.</summary>
    private sealed class Rig : IDisposable
    {
        public static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

        private readonly AnonymousPipeServerStream _device = new(PipeDirection.In);
        private readonly RingLoop _loop = new(0, "test");
        private readonly NativeBuffer _header = new(UringEntryHeader.SizeBytes);
        private readonly NativeBuffer _payload;
        private readonly FuseDispatcher _dispatcher;
        private readonly UringEntry _entry;

        public Rig(FuseFileSystem files)
        {
            FuseWarnings warnings = new(Warnings.Enqueue);
            Pool = new FuseRequestPool(64 << 10, new FuseReplySender(warnings, null), bound: 256, isShared: true);
            _dispatcher = new FuseDispatcher(files, Pool, warnings, null, []);
            UringLayout layout = new(rings: 1, 64 << 10, possible: 1, online: [0]);
            int fd = (int)_device.SafePipeHandle.DangerousGetHandle();
            Queues = new UringQueues(session: null!, _loop, fd, _dispatcher, Pool, warnings, layout);
            Refusal = Queues.RegisterAsync().GetAwaiter().GetResult();
            Header = (UringEntryHeader*)_header.Start;
            _payload = new NativeBuffer(Pool.ShownBytes);
            _entry = new UringEntry(Queues, 0, 0, Header, Payload, Queues.TryTakeRequest(Payload)!);
            ObjectsAtFirst = Pool.Allocated;
        }

        public UringQueues Queues { get; }

        public LinuxException? Refusal { get; }

        public FuseRequestPool Pool { get; }

        public int ObjectsAtFirst { get; }

        public ConcurrentQueue<string> Warnings { get; } = new();

        public UringEntryHeader* Header { get; }

        public byte* Payload => _payload.Start;

        /// <summary>What is in the entry for the kernel.</summary>
        public (int Error, ulong Unique, uint PayloadBytes) Reply =>
            (Header->Out.Error, Header->Out.Unique, Header->PayloadBytes);

        /// <summary>Fills the entry as the kernel does, and has the ring's thread handle it.</summary>
        public void Arrive(
            byte[] request, ReadOnlySpan<byte> payload = default, uint? length = null, uint? payloadBytes = null)
        {
            fixed (byte* start = request)
            {
                Header->In = *(FuseInHeader*)start;
                int body = request.Length - FuseInHeader.SizeBytes;
                Buffer.MemoryCopy(start + FuseInHeader.SizeBytes, Header->Operation, UringEntryHeader.OperationBytes, body);
            }

            payload.CopyTo(new Span<byte>(Payload, payload.Length));
            Header->In.Length = length ?? (uint)(request.Length + payload.Length);
            Header->PayloadBytes = payloadBytes ?? (uint)payload.Length;
            Header->CommitId = Header->In.Unique;
            OnRing(() => _entry.Dispatch(_dispatcher));
        }

        /// <summary>Waits until it has run on the ring's thread.</summary>
        public void OnRing(Action action)
        {
            using ManualResetEventSlim hasRun = new();
            _loop.Post(new Work(() =>
            {
                action();
                hasRun.Set();
            }));
            Assert.True(hasRun.WaitHandle.WaitOne(Limit));
        }

        /// <summary>Waits for the first commit, which the pipe refuses.</summary>
        public void WaitForCommit() => Assert.True(SpinWait.SpinUntil(
            () => Warnings.Any(warning => warning.Contains("did not take a reply", StringComparison.Ordinal)), Limit));

        public void Dispose()
        {
            _loop.Dispose();
            Queues.Dispose();
            Pool.Dispose();
            _header.Dispose();
            _payload.Dispose();
            _device.Dispose();
        }

        private sealed class Work(Action run) : IRingWork
        {
            public IRingWork? NextPosted { get; set; }

            public void Run() => run();
        }
    }
}
