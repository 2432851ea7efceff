using global::Nbd;
using Linux;
using UnitTests.Nbd;

namespace UnitTests.Serving;

/// <summary>Commands and their replies, byte for byte, in each style of reply.</summary>
public sealed class ServerRequestTests
{
    private const int Size = 64 * 1024;
    private const int Eperm = 1;
    private const int Einval = 22;
    private const int Enospc = 28;
    private const int Eoverflow = 75;

    [Theory]
    [InlineData(Style.Simple)]
    [InlineData(Style.Structured)]
    [InlineData(Style.Extended)]
    public async Task Data_that_are_written_are_read(Style style)
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        using FakePeer client = server.Enter(style);
        Send(client, style, 1, 1, 1000, 3, data: "0a0b0c");
        ExpectDone(client, style, 1, 1000);
        Send(client, style, 0, 2, 999, 5);
        client.Expect(style switch
        {
            Style.Simple => Frame.SimpleReply(0, 2) + "000a0b0c00",
            Style.Structured => Frame.Chunk(true, 1, 2, Frame.U64(999) + "000a0b0c00"),
            _ => TestServer.ExtendedChunk(1, 2, 999, Frame.U64(999) + "000a0b0c00"),
        });
        Assert.Equal([0x0a, 0x0b, 0x0c], disk.Content[1000..1003]);
    }

    [Theory]
    [InlineData(Style.Simple)]
    [InlineData(Style.Structured)]
    [InlineData(Style.Extended)]
    public async Task Commands_reach_the_backend_with_their_flags(Style style)
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        using FakePeer client = server.Enter(style);
        (int Type, ulong Offset, uint Length, int Flags)[] commands =
        [
            (3, 0, 0, 0), (3, 0, 0, 1), (4, 512, 1024, 0), (4, 0, 1, 1), (5, 0, Size, 0),
            (6, 0, 512, 0), (6, 0, 512, 1), (6, 0, 512, 2), (6, 1, Size - 1, 0x10), (6, 0, 512, 0x13),
        ];
        foreach ((int type, ulong offset, uint length, int flags) in commands)
        {
            Send(client, style, type, 5, offset, length, flags);
            ExpectDone(client, style, 5, offset);
        }

        Send(client, style, 1, 5, 2, 1, 1, "ff");
        ExpectDone(client, style, 5, 2);
        Assert.Equal(
            [
                "flush", "flush", "trim 512 1024", "trim 0 1 fua", $"cache 0 {Size}",
                "zero 0 512 None", "zero 0 512 ForceUnitAccess", "zero 0 512 NoHole", $"zero 1 {Size - 1} Fast",
                "zero 0 512 ForceUnitAccess, NoHole, Fast", "write 2 1 fua",
            ],
            disk.Calls);
    }

    [Fact]
    public async Task Holes_are_sent_as_holes()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        disk.Content.AsSpan(1024, 512).Fill(7);
        string data = string.Concat(Enumerable.Repeat("07", 512));
        using FakePeer client = server.Enter();
        client.Send(TestServer.Request(0, 3, 512, 2048));
        client.Expect(
            Frame.HoleChunk(false, 3, 512, 512)
            + Frame.Chunk(false, 1, 3, Frame.U64(1024) + data)
            + Frame.HoleChunk(true, 3, 1536, 1024));
        client.Send(TestServer.Request(0, 4, 1024, 1024));
        client.Expect(Frame.Chunk(false, 1, 4, Frame.U64(1024) + data) + Frame.HoleChunk(true, 4, 1536, 512));
        client.Send(TestServer.Request(0, 5, 1024, 512));
        client.Expect(Frame.Chunk(true, 1, 5, Frame.U64(1024) + data));
        Assert.Equal(["read 1024 512", "read 1024 512", "read 1024 512"], disk.Calls);
        client.Send(TestServer.Request(0, 6, 1024, 1024, flags: 4));
        client.Expect(Frame.Chunk(true, 1, 6, Frame.U64(1024) + data + Frame.Zeroes(512)));

        using FakePeer extended = server.Enter(Style.Extended);
        extended.Send(TestServer.Extended(0, 3, 1024, 1024));
        extended.Expect(
            TestServer.ExtendedChunk(1, 3, 1024, Frame.U64(1024) + data, done: false)
            + TestServer.ExtendedChunk(2, 3, 1024, Frame.U64(1536) + Frame.U32(512)));
    }

    [Fact]
    public async Task A_read_with_very_many_holes_is_whole()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        for (int block = 0; block < Size; block += 1024)
        {
            disk.Content.AsSpan(block, 512).Fill((byte)(1 + (block >> 10)));
        }

        await using NbdClient client = await NbdClient.ConnectAsync(
            server.Endpoint, "", null, TestContext.Current.CancellationToken);
        byte[] read = new byte[Size];
        await client.ReadAsync(0, read, TestContext.Current.CancellationToken);
        Assert.Equal(disk.Content, read);
    }

    [Fact]
    public async Task Block_status_tells_the_extents()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        disk.Content.AsSpan(1024, 512).Fill(7);
        using FakePeer client = server.Enter();
        client.Send(TestServer.Request(7, 3, 0, Size));
        client.Expect(Frame.Chunk(true, 5, 3, Extents32((1024, 3), (512, 0), (Size - 1536, 3))));
        client.Send(TestServer.Request(7, 4, 512, 1024, flags: 8));
        client.Expect(Frame.Chunk(true, 5, 4, Extents32((512, 3))));

        using FakePeer extended = server.Enter(Style.Extended);
        string whole = Frame.U32(1) + Frame.U32(3) + Frame.U64(1024) + Frame.U64(3) + Frame.U64(512) + Frame.U64(0)
            + Frame.U64(Size - 1536) + Frame.U64(3);
        extended.Send(TestServer.Extended(7, 3, 0, Size));
        extended.Expect(TestServer.ExtendedChunk(6, 3, 0, whole));
        extended.Send(TestServer.Extended(7, 4, 0, 12, 0x20, Frame.U64(Size) + Frame.U32(1)));
        extended.Expect(TestServer.ExtendedChunk(6, 4, 0, whole));
        foreach (string payload in (string[])
            [Frame.U64(Size) + Frame.U32(2), Frame.U64(Size) + Frame.U32(1) + Frame.U32(1), Frame.U64(0) + Frame.U32(1)])
        {
            extended.Send(TestServer.Extended(7, 5, 0, (ulong)payload.Length / 2, 0x20, payload));
            ExpectError(extended, Style.Extended, 5, 0, Einval);
        }
    }

    [Theory]
    [InlineData(Style.Simple)]
    [InlineData(Style.Structured)]
    [InlineData(Style.Extended)]
    public async Task Wrong_requests_get_their_error_and_the_connection_goes_on(Style style)
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        using FakePeer client = server.Enter(style);
        (int Type, ulong Offset, uint Length, int Flags, int Error)[] cases =
        [
            (0, Size, 1, 0, Einval),
            (0, Size - 1, 2, 0, Einval),
            (0, ulong.MaxValue, 1, 0, Einval),
            (0, 1UL << 63, uint.MaxValue, 0, Einval),
            (0, 0, 0, 0, Einval),
            (0, 0, 1, 2, Einval),
            (0, 0, 1, 8, Einval),
            (0, 0, 1, 0x8000, Einval),
            (1, Size, 1, 0, Enospc),
            (1, Size - 1, 3, 0, Enospc),
            (1, 0, 0, 0, Einval),
            (1, 0, 8, 2, Einval),
            (3, 1, 0, 0, Einval),
            (3, 0, 1, 0, Einval),
            (3, 0, 0, 4, Einval),
            (4, Size, 1, 0, Einval),
            (4, 0, Size + 1, 0, Einval),
            (4, 0, 1, 2, Einval),
            (5, 0, uint.MaxValue, 0, Einval),
            (6, 0, Size + 1, 0, Enospc),
            (6, 0, uint.MaxValue, 0, Enospc),
            (6, 0, 1, 4, Einval),
            (7, 0, 0, 0, Einval),
            (7, 0, uint.MaxValue, 0, Einval),
            (7, 0, 1, 4, Einval),
            (8, 0, 1, 0, Einval),
            (0xffff, 0, 0, 0, Einval),
        ];
        foreach ((int type, ulong offset, uint length, int flags, int error) in cases)
        {
            string data = type == 1 ? Frame.Zeroes((int)length) : "";
            Send(client, style, type, 0xfeed, offset, length, flags, data);
            ExpectError(client, style, 0xfeed, offset, error);
        }

        Assert.Empty(disk.Calls);
    }

    [Theory]
    [InlineData(Style.Simple, Einval)]
    [InlineData(Style.Structured, Eoverflow)]
    public async Task A_read_or_write_of_more_than_the_limit_is_refused(Style style, int error)
    {
        await using TestServer server = new(
            new TestDisk(1 << 20), options => options with { MaximumPayloadBytes = 64 * 1024 });
        using FakePeer client = server.Enter(style);
        Send(client, style, 0, 1, 0, (64 * 1024) + 1);
        ExpectError(client, style, 1, 0, error);
        Send(client, style, 1, 2, 0, (64 * 1024) + 1, 0, Frame.Zeroes((64 * 1024) + 1));
        ExpectError(client, style, 2, 0, Einval);
        Send(client, style, 0, 3, 0, 64 * 1024);
        _ = client.Receive(16);
    }

    [Fact]
    public async Task What_is_not_offered_is_refused()
    {
        await using TestServer server = new(new TestDisk(Size) { Offers = NbdBackendCapabilities.None });
        using FakePeer client = server.Enter(Style.Structured, allocation: false);
        foreach ((int type, int flags) in ((int, int)[])[(3, 0), (4, 0), (5, 0), (6, 0), (6, 0x10), (7, 0), (0, 1)])
        {
            client.Send(TestServer.Request(type, 1, 0, type == 3 ? 0u : 512, flags));
            ExpectError(client, Style.Structured, 1, 0, Einval);
        }
    }

    [Fact]
    public async Task A_read_only_export_permits_no_change()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk, options => options with { ReadOnly = true });
        using FakePeer client = server.Enter();
        foreach (int type in (int[])[1, 4, 6])
        {
            client.Send(TestServer.Request(type, 1, 0, 4, data: type == 1 ? "01020304" : ""));
            client.Expect(Frame.ErrorChunk(true, 1, Eperm, "the export is read-only"));
        }

        Assert.Empty(disk.Calls);
    }

    [Fact]
    public async Task Requests_that_are_not_whole_blocks_are_refused()
    {
        TestDisk disk = new(Size) { MinimumBlock = 512 };
        await using TestServer server = new(disk);
        using FakePeer client = server.Enter();
        foreach ((int type, ulong offset, uint length) in ((int, ulong, uint)[])[(0, 1, 512), (0, 0, 100), (6, 256, 512), (7, 0, 1)])
        {
            client.Send(TestServer.Request(type, 1, offset, length));
            ExpectError(client, Style.Structured, 1, offset, Einval);
        }

        Assert.Empty(disk.Calls);
    }

    [Fact]
    public async Task Errors_of_the_backend_reach_the_client_and_the_log()
    {
        Queue<Exception> thrown = new(
        [
            new LinuxException("pwrite", Errno.ENOSPC), new LinuxException("pwrite", (Errno)122),
            new LinuxException("pwrite", Errno.EFBIG), new LinuxException("pread", Errno.EPERM),
            new LinuxException("pread", Errno.EOPNOTSUPP), new LinuxException("pread", Errno.ESHUTDOWN),
            new IOException("text", 28), new IOException("text\u001b[2J"), new UnauthorizedAccessException("no"),
            new InsufficientMemoryException("full"), new InvalidOperationException("bug"), new NotSupportedException("never"),
        ]);
        await using TestServer server = new(new TestDisk(Size) { Before = _ => throw thrown.Dequeue() });
        using FakePeer client = server.Enter();
        foreach (int error in (int[])[28, 28, 28, 1, 5, 5, 28, 5, 1, 12, 5, 22])
        {
            client.Send(TestServer.Request(4, 1, 0, 512));
            string text = ExpectError(client, Style.Structured, 1, 0, error);
            Assert.DoesNotContain('\u001b', text);
        }

        Assert.Equal(12, server.Log.Count);
        Assert.Equal("Trim of 512 bytes at 0: text?[2J", server.Log[7]);
    }

    [Fact]
    public async Task Zeroes_that_would_be_slow_are_not_supported_and_not_logged()
    {
        await using TestServer server = new(new TestDisk(Size) { Before = _ => throw new NotSupportedException("slow") });
        using FakePeer client = server.Enter();
        client.Send(TestServer.Request(6, 1, 0, 512, flags: 0x10));
        client.Expect(Frame.ErrorChunk(true, 1, 95, "slow"));
        Assert.Empty(server.Log);
    }

    private static void Send(
        FakePeer client, Style style, int type, ulong cookie, ulong offset, uint length, int flags = 0, string data = "") =>
        client.Send(style == Style.Extended
            ? TestServer.Extended(type, cookie, offset, length, flags | (data.Length > 0 ? 0x20 : 0), data)
            : TestServer.Request(type, cookie, offset, length, flags, data));

    private static void ExpectDone(FakePeer client, Style style, ulong cookie, ulong offset) =>
        client.Expect(style == Style.Extended
            ? TestServer.ExtendedChunk(0, cookie, offset)
            : Frame.SimpleReply(0, cookie));

    private static string ExpectError(FakePeer client, Style style, ulong cookie, ulong offset, int error)
    {
        if (style == Style.Simple)
        {
            client.Expect(Frame.SimpleReply((uint)error, cookie));
            return "";
        }

        int length;
        if (style == Style.Extended)
        {
            client.Expect("6e8a278c" + Frame.U16(1) + Frame.U16(0x8001) + Frame.U64(cookie) + Frame.U64(offset));
            length = Convert.ToInt32(Convert.ToHexString(client.Receive(8)), 16);
        }
        else
        {
            client.Expect("668e33ef" + Frame.U16(1) + Frame.U16(0x8001) + Frame.U64(cookie));
            length = Convert.ToInt32(Convert.ToHexString(client.Receive(4)), 16);
        }

        client.Expect(Frame.U32((uint)error) + Frame.U16(length - 6));
        return System.Text.Encoding.UTF8.GetString(client.Receive(length - 6));
    }

    private static string Extents32(params (int Length, int Flags)[] extents) =>
        Frame.U32(1) + string.Concat(extents.Select(e => Frame.U32((uint)e.Length) + Frame.U32((uint)e.Flags)));
}
