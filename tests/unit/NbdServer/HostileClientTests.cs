using System.Net.Sockets;
using global::Nbd;
using UnitTests.Nbd;

namespace UnitTests.Serving;

/// <summary>A client that breaks the rules loses its connection, and nobody else notices.</summary>
public sealed class HostileClientTests
{
    private const int Size = 64 * 1024;
    private const uint TooBig = 0x80000009;

    /// <summary>What is sent after the greeting: first in the handshake, and if that is empty in transmission.</summary>
    private static readonly Dictionary<string, (string Handshake, string Transmission)> s_cases = new()
    {
        ["unknown handshake flags"] = ("00000004", ""),
        ["all handshake flags"] = ("ffffffff", ""),
        ["no option magic"] = ("00000003" + Frame.Zeroes(16), ""),
        ["a request before GO"] = ("00000003" + TestServer.Request(0, 1, 0, 1), ""),
        ["an HTTP request"] = (Frame.Text("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ""),
        ["an option of 4 GiB"] = ("00000003" + Frame.OptionMagic + Frame.U32(7) + Frame.U32(uint.MaxValue), ""),
        ["an unknown option of 2 GiB"] = ("00000003" + Frame.OptionMagic + Frame.U32(99) + Frame.U32(1u << 31), ""),
        ["a name of 4097 bytes"] = ("00000003" + Frame.Option(Frame.ExportName, Frame.Zeroes(4097)), ""),
        ["a name that is not UTF-8"] = ("00000003" + Frame.Option(Frame.ExportName, "c3c3"), ""),
        ["a name with a zero byte"] = ("00000003" + Frame.Option(Frame.ExportName, "6100"), ""),
        ["EXPORT_NAME after extended headers"] =
            ("00000003" + Frame.Option(11) + Frame.Option(Frame.ExportName, ""), ""),
        ["no request magic"] = ("", Frame.Zeroes(28)),
        ["an extended request"] = ("", TestServer.Extended(0, 1, 0, 1)),
        ["a simple reply"] = ("", Frame.SimpleReply(0, 1) + Frame.Zeroes(12)),
        ["an option after GO"] = ("", Frame.Option(Frame.Abort) + Frame.Zeroes(12)),
        ["a write of 2^32-1"] = ("", TestServer.Request(1, 1, 0, uint.MaxValue)),
        ["a write of 129 MiB"] = ("", TestServer.Request(1, 1, 0, 129 << 20)),
        ["a write of 2^32-1 at 2^64-1"] = ("", TestServer.Request(1, 1, ulong.MaxValue, uint.MaxValue)),
        ["a disconnect with garbage behind it"] = ("", TestServer.Request(2, 1, 0, 0) + Frame.Zeroes(100)),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_client_that_breaks_the_rules_is_cut_off_alone(string name)
    {
        (string handshake, string transmission) = s_cases[name];
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        await using NbdClient good = await NbdClient.ConnectAsync(server.Endpoint, "", null, Token);
        using (FakePeer bad = handshake.Length > 0 ? server.Connect() : server.Enter())
        {
            bad.Send(handshake + transmission);
            bad.Drain();
        }

        await TestServer.Until(() => server.Server.ConnectionCount == 1, "the end of the bad client");
        await good.WriteAsync(0, new byte[10], cancellationToken: Token);
        Assert.Equal(["write 0 10"], disk.Calls);
    }

    [Theory]
    [InlineData("a payload longer than the limit", 1, 0x20, (ulong)(32 << 20) + 1)]
    [InlineData("a payload of 2^64-1", 1, 0x20, ulong.MaxValue)]
    [InlineData("a payload of a read", 0, 0x20, 1UL << 40)]
    public async Task An_impossible_extended_payload_ends_the_connection(string name, int type, int flags, ulong length)
    {
        await using TestServer server = new(new TestDisk(Size));
        using FakePeer bad = server.Enter(Style.Extended);
        bad.Send(TestServer.Extended(type, 1, 0, length, flags));
        bad.ExpectEnd();
        Assert.Contains(server.Log, line => line.Contains("payload", StringComparison.Ordinal));
        Assert.NotEmpty(name);
    }

    [Fact]
    public async Task An_extended_range_of_2_to_the_64_gets_its_error()
    {
        await using TestServer server = new(new TestDisk(Size));
        using FakePeer client = server.Enter(Style.Extended);
        foreach ((int type, ulong offset, ulong length) in ((int, ulong, ulong)[])
            [(0, 0, ulong.MaxValue), (6, 1, ulong.MaxValue), (7, ulong.MaxValue, ulong.MaxValue), (4, 0, 1UL << 63)])
        {
            client.Send(TestServer.Extended(type, 1, offset, length));
            client.Expect("6e8a278c" + Frame.U16(1) + Frame.U16(0x8001) + Frame.U64(1) + Frame.U64(offset));
            _ = client.Receive(Convert.ToInt32(Convert.ToHexString(client.Receive(8)), 16));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(27)]
    [InlineData(28)]
    [InlineData(28 + 4095)]
    public async Task Half_a_request_is_no_request(int bytes)
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        using (FakePeer bad = server.Enter())
        {
            bad.SendAndShutDown(Convert.FromHexString(
                TestServer.Request(1, 1, 0, 4096, 0, Frame.Zeroes(4096))[..(2 * bytes)]));
        }

        await TestServer.Until(() => disk.Disposed == 1, "the end of the connection");
        Assert.Empty(disk.Calls);
    }

    [Fact]
    public async Task A_long_option_is_skipped_but_not_a_longer_one()
    {
        await using TestServer server = new(new TestDisk(Size));
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(Frame.Go, Frame.Zeroes(1 << 20)));
        client.Expect(Frame.OptionReplyMagic + Frame.U32(Frame.Go) + Frame.U32(TooBig));
        _ = client.Receive(Convert.ToInt32(Convert.ToHexString(client.Receive(4)), 16));
        TestServer.Ask(client, Frame.StructuredReply, "", Frame.Ack);
    }

    [Theory]
    [InlineData("")]
    [InlineData("000000")]
    [InlineData("00000003")]
    [InlineData("0000000349484156454f5054")]
    [InlineData("0000000349484156454f50540000000700000100")]
    public async Task A_handshake_that_does_not_end_is_ended(string sent)
    {
        await using TestServer server = new(
            new TestDisk(Size),
            options => options with { HandshakeTimeout = TimeSpan.FromMilliseconds(50) },
            isStarted: false);
        using FakePeer client = server.Connect();
        client.Send(sent);
        server.Server.Start();
        client.Drain();
        await TestServer.Until(() => server.Log.Count > 0, "the log");
        Assert.Equal(["a client was cut off: it did not finish the handshake in time"], server.Log);
    }

    [Fact]
    public async Task A_handshake_that_never_ends_with_options_is_ended()
    {
        await using TestServer server = new(
            new TestDisk(Size),
            options => options with { HandshakeTimeout = TimeSpan.FromMilliseconds(200) },
            isStarted: false);
        using FakePeer client = server.Connect();
        client.Send(TestServer.HelloFlags);
        server.Server.Start();
        client.SendForEver(Frame.Option(99));
        await TestServer.Until(() => server.Server.ConnectionCount == 0, "the end of the client");
    }

    public static TheoryData<string, Style> Trickles => new(
        [
            ("a header", Style.Simple), ("a header", Style.Extended), ("a payload", Style.Simple), ("a payload", Style.Extended),
            ("a payload that is refused", Style.Simple), ("a payload that is refused", Style.Extended), ("silence", Style.Simple),
        ]);

    [Theory]
    [MemberData(nameof(Trickles))]
    public async Task A_request_that_comes_byte_by_byte_for_ever_ends_the_connection(string what, Style style)
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(
            disk, options => options with { RequestTimeout = TimeSpan.FromMilliseconds(200) });
        using FakePeer patient = server.Enter();
        using FakePeer client = server.Enter(style);
        ulong offset = what == "a payload that is refused" ? Size : 0u;
        string request = style == Style.Extended
            ? TestServer.Extended(1, 1, offset, 4096, 0x20)
            : TestServer.Request(1, 1, offset, 4096);
        client.Send(what == "a header" ? request[..2] : request + "00");
        if (what != "silence")
        {
            await client.TrickleForEver(0, TimeSpan.FromMilliseconds(50));
        }

        await TestServer.Until(() => server.Server.ConnectionCount == 1, "the end of its connection");
        Assert.Equal(["a client was cut off: it took too long to send a request"], server.Log);
        Assert.Empty(disk.Calls);
        // Who is silent between two requests stays.
        patient.Send(TestServer.Request(3, 7, 0, 0));
        patient.Expect(Frame.SimpleReply(0, 7));
    }

    [Fact]
    public async Task Connections_beyond_the_limit_are_turned_away_until_others_leave()
    {
        await using TestServer server = new(new TestDisk(Size), options => options with { MaximumConnections = 20 });
        List<Socket> idle = [.. Enumerable.Range(0, 40).Select(_ => server.ConnectSocket())];
        await TestServer.Until(() => server.Log.Count == 20, "the ones beyond the limit");
        Assert.All(server.Log, line => Assert.Equal("a client was turned away: there are 20 already", line));
        idle.ForEach(socket => socket.Dispose());
        await TestServer.Until(() => server.Server.ConnectionCount == 0, "the end of the idle ones");
        await using NbdClient good = await NbdClient.ConnectAsync(server.Endpoint, "", null, Token);
        Assert.Equal(Size, good.Export.SizeBytes);
    }

    [Fact]
    public async Task Idle_connections_do_not_fill_a_server_for_ever()
    {
        await using TestServer server = new(
            new TestDisk(Size),
            options => options with { MaximumConnections = 20, HandshakeTimeout = TimeSpan.FromMilliseconds(50) });
        List<Socket> idle = [.. Enumerable.Range(0, 20).Select(_ => server.ConnectSocket())];
        await TestServer.Until(() => server.Log.Count == 20, "the end of the idle ones");
        Assert.All(server.Log, line => Assert.Equal("a client was cut off: it did not finish the handshake in time", line));
        await TestServer.Until(() => server.Server.ConnectionCount == 0, "room for others");
        idle.ForEach(socket => socket.Dispose());
    }

    [Fact]
    public async Task A_client_that_takes_no_replies_hinders_nobody()
    {
        TestDisk disk = new(Size) { Before = async _ => await Task.Yield() };
        await using TestServer server = new(disk);
        List<Socket> deaf = [];
        for (int i = 0; i < 8; i++)
        {
            Socket socket = server.ConnectSocket();
            deaf.Add(socket);
            socket.Send(Convert.FromHexString(TestServer.HelloFlags + Frame.GoFor("")));
            byte[] requests = Convert.FromHexString(
                string.Concat(Enumerable.Repeat(TestServer.Request(0, 1, 0, Size), 2000)));
            socket.Blocking = false;
            _ = socket.Send(requests, SocketFlags.None, out _);
        }

        await using NbdClient good = await NbdClient.ConnectAsync(server.Endpoint, "", null, Token);
        byte[] read = new byte[Size];
        await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => good.ReadAsync(0, read, Token).AsTask()));
        deaf.ForEach(socket => socket.Dispose());
        await TestServer.Until(() => server.Server.ConnectionCount == 1, "the end of the deaf ones");
    }

    [Fact]
    public async Task A_client_that_is_gone_in_the_middle_of_requests_leaves_nothing_behind()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TestDisk disk = new(Size) { Before = call => call == "read 0 1" ? go.Task : Task.CompletedTask };
        disk.Content[0] = 1;
        await using TestServer server = new(disk);
        using (FakePeer client = server.Enter())
        {
            client.Send(string.Concat(Enumerable.Repeat(TestServer.Request(0, 1, 0, 1), 10)));
            await TestServer.Until(() => disk.Calls.Count == 10, "the reads");
        }

        await using (NbdClient good = await NbdClient.ConnectAsync(server.Endpoint, "", null, Token))
        {
            await good.WriteAsync(0, new byte[1], cancellationToken: Token);
        }

        Assert.InRange(disk.Disposed, 0, 1);
        go.SetResult();
        await TestServer.Until(() => disk.Disposed == 2, "the end of both");
    }

    [Fact]
    public async Task Memory_of_all_requests_together_is_bounded()
    {
        const int Payload = 64 * 1024;
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TestDisk disk = new(Size) { Before = call => call.StartsWith("read", StringComparison.Ordinal) ? go.Task : Task.CompletedTask };
        await using TestServer server = new(
            disk, options => options with { MaximumPayloadBytes = Payload, MaximumMemoryBytes = 2 * Payload });
        using FakePeer client = server.Enter(Style.Simple);
        client.Send(string.Concat(Enumerable.Repeat(TestServer.Request(0, 1, 0, Payload), 2)));
        client.Send(TestServer.Request(0, 2, 0, 1));
        client.Send(TestServer.Request(1, 3, 0, Payload, 0, Frame.Zeroes(Payload)));
        // The first two have it all; the small one needs none of it, and waits for the same event. Others have a reserve.
        using (FakePeer other = server.Enter(Style.Simple))
        {
            other.Send(TestServer.Request(1, 9, 0, Payload, 0, Frame.Zeroes(Payload)));
            other.Expect(Frame.SimpleReply(0, 9));
        }

        client.Expect(Frame.SimpleReply(12, 3));
        go.SetResult();
        _ = client.Receive((2 * (16 + Payload)) + 17);
        client.Send(TestServer.Request(1, 4, 0, Payload, 0, Frame.Zeroes(Payload)));
        client.Expect(Frame.SimpleReply(0, 4));
    }
}
