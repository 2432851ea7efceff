using global::Nbd;
using UnitTests.Nbd;

namespace UnitTests.Serving;

/// <summary>Every option and its answers, byte for byte.</summary>
public sealed class ServerHandshakeTests
{
    private const uint Unsupported = 0x80000001;
    private const uint Policy = 0x80000002;
    private const uint Invalid = 0x80000003;
    private const uint Unknown = 0x80000006;
    private const uint BlockSizeRequired = 0x80000008;
    private const uint TooBig = 0x80000009;
    private const uint ExtendedRequired = 0x8000000a;

    private const int AllFlags = 0x0c6d;

    [Fact]
    public async Task Go_tells_what_was_asked_for_and_enters_transmission()
    {
        await using TestServer server = new(new TestDisk(8192) { Text = "two\nlines" });
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(Frame.Go, TestServer.Counted("disk") + Infos(1, 2, 3, 3, 99)));
        client.Expect(
            Frame.ExportInfo(8192, AllFlags)
            + Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(1) + Frame.Text("disk"))
            + Frame.OptionReply(Frame.Go, Frame.Info, Frame.U16(2) + Frame.Text("two?lines"))
            + Frame.BlockSizeInfo(1, 4096, 32 << 20)
            + Frame.OptionReply(Frame.Go, Frame.Ack));
        client.Send(TestServer.Request(0, 7, 0, 2));
        client.Expect(Frame.SimpleReply(0, 7) + "0000");
    }

    [Fact]
    public async Task Info_stays_in_the_handshake_and_opens_the_export_once()
    {
        TestDisk disk = new(512);
        await using TestServer server = new(disk);
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(6, TestServer.Counted("") + Infos()));
        client.Expect(
            Frame.OptionReply(6, Frame.Info, Frame.U16(0) + Frame.U64(512) + Frame.U16(AllFlags))
            + Frame.OptionReply(6, Frame.Ack));
        client.Send(Frame.Option(Frame.Go, TestServer.Counted("") + Infos()));
        client.Expect(Frame.ExportInfo(512, AllFlags) + Frame.OptionReply(Frame.Go, Frame.Ack));
        Assert.Equal(1, disk.Opened);
        client.Send(TestServer.Request(2, 1, 0, 0));
        client.ExpectEnd();
        Assert.Equal(1, disk.Disposed);
    }

    [Theory]
    [InlineData("00000003", 0)]
    [InlineData("00000001", 124)]
    [InlineData("00000000", 124)]
    public async Task Export_name_enters_transmission_with_as_many_zeroes_as_agreed(string flags, int zeroes)
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet(flags);
        client.Send(Frame.Option(Frame.ExportName, Frame.Text("any")));
        client.Expect(Frame.U64(4096) + Frame.U16(AllFlags) + Frame.Zeroes(zeroes));
        client.Send(TestServer.Request(0, 9, 4095, 1));
        client.Expect(Frame.SimpleReply(0, 9) + "00");
    }

    [Fact]
    public async Task Export_name_of_an_export_that_is_not_there_ends_the_connection()
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(Frame.ExportName, Frame.Text("no such")));
        client.ExpectEnd();
    }

    [Fact]
    public async Task Go_refuses_exports_with_a_reason_and_stays()
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet();
        client.Send(Frame.GoFor("no such"));
        client.Expect(Frame.OptionReply(Frame.Go, Unknown, Frame.Text("no such export")));
        client.Send(Frame.GoFor("broken"));
        client.Expect(Frame.OptionReply(Frame.Go, Unknown, Frame.Text("the medium?is broken")));
        client.Send(Frame.GoFor("disk"));
        client.Expect(Frame.ExportInfo(4096, AllFlags));
        Assert.Equal(["open the export 'broken': the medium?is broken"], server.Log);
    }

    [Fact]
    public async Task Abort_is_acknowledged()
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(Frame.Abort, "00"));
        client.Expect(Frame.OptionReply(Frame.Abort, Frame.Ack));
        client.ExpectEnd();
    }

    [Fact]
    public async Task The_list_has_names_and_descriptions()
    {
        await using TestServer server = new(new TestDisk(4096), options => options with
        {
            ListExports = _ => ValueTask.FromResult<IReadOnlyList<NbdExportDescription>>(
                [new("", "the default"), new("\u00e9", null)]),
        });
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(Frame.List));
        client.Expect(
            Frame.ServerEntry("", "the default") + Frame.ServerEntry("\u00e9") + Frame.OptionReply(Frame.List, Frame.Ack));
        client.Send(Frame.Option(Frame.List, "00"));
        ExpectError(client, Frame.List, Invalid);
    }

    [Fact]
    public async Task Options_are_refused_for_their_reasons()
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet();
        (uint Option, string Data, uint Error)[] cases =
        [
            (4, "", Unsupported),
            (77, "0102", Unsupported),
            (uint.MaxValue, "", Unsupported),
            (Frame.List, "", Policy),
            (5, "", Policy),
            (Frame.StructuredReply, "00", Invalid),
            (11, "00", Invalid),
            (Frame.Go, "", Invalid),
            (Frame.Go, Frame.U32(uint.MaxValue) + Infos(), Invalid),
            (Frame.Go, Frame.U32(1) + Infos(), Invalid),
            (Frame.Go, TestServer.Counted("x") + Frame.U16(1), Invalid),
            (Frame.Go, TestServer.Counted("x") + Infos() + "00", Invalid),
            (Frame.Go, TestServer.Counted(new string('x', 4097)) + Infos(), Invalid),
            (Frame.Go, TestServer.Counted("a\0b") + Infos(), Invalid),
            (Frame.Go, Frame.U32(1) + "ff" + Infos(), Invalid),
            (6, "00000000", Invalid),
            (9, "", Invalid),
            (9, TestServer.Counted("x"), Invalid),
            (9, TestServer.Counted("x") + Frame.U32(uint.MaxValue), Invalid),
            (9, TestServer.Counted("x") + Frame.U32(1) + Frame.U32(uint.MaxValue), Invalid),
            (9, TestServer.Counted("x") + Frame.U32(1) + Frame.U32(0) + "00", Invalid),
            (9, TestServer.MetaQuery("no such"), Unknown),
            (10, TestServer.MetaQuery("x", "base:allocation"), Invalid),
            (7, Frame.Zeroes(70_000), TooBig),
        ];
        foreach ((uint option, string data, uint error) in cases)
        {
            client.Send(Frame.Option(option, data));
            ExpectError(client, option, error);
        }

        // A name of the greatest length is fine.
        client.Send(Frame.Option(6, TestServer.Counted(new string('x', 4096)) + Infos()));
        _ = client.Receive(20 + 12);
        client.Expect(Frame.OptionReply(6, Frame.Ack));
    }

    [Fact]
    public async Task Meta_contexts_are_listed_and_set()
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet();
        string listed = Frame.OptionReply(9, 4, Frame.U32(0) + Frame.Text("base:allocation"));
        string set = Frame.OptionReply(10, 4, Frame.U32(1) + Frame.Text("base:allocation"));
        TestServer.Ask(client, Frame.StructuredReply, "", Frame.Ack);
        (uint Option, string[] Queries, string Answer)[] cases =
        [
            (9, [], listed),
            (9, ["base:"], listed),
            (9, ["x-other:", "base:allocation"], listed),
            (9, ["x-other:"], ""),
            (9, ["base:other"], ""),
            (10, [], ""),
            (10, ["base:"], ""),
            (10, ["base:allocation", "base:allocation"], set),
        ];
        foreach ((uint option, string[] queries, string answer) in cases)
        {
            client.Send(Frame.Option(option, TestServer.MetaQuery("", queries)));
            client.Expect(answer + Frame.OptionReply(option, Frame.Ack));
        }
    }

    [Fact]
    public async Task A_meta_context_of_another_export_is_not_set()
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet();
        TestServer.Ask(client, Frame.StructuredReply, "", Frame.Ack);
        client.Send(Frame.Option(10, TestServer.MetaQuery("one", "base:allocation")));
        _ = client.Receive(20 + 19 + 20);
        client.Send(Frame.GoFor("other"));
        _ = client.Receive(32 + 34 + 20);
        client.Send(TestServer.Request(7, 1, 0, 512));
        client.Expect(Frame.ErrorChunk(true, 1, 22, "no meta context was chosen"));
    }

    [Fact]
    public async Task Structured_replies_are_refused_after_extended_headers()
    {
        await using TestServer server = new(new TestDisk(4096));
        using FakePeer client = server.Greet();
        TestServer.Ask(client, Frame.StructuredReply, "", Frame.Ack);
        TestServer.Ask(client, 11, "", Frame.Ack);
        client.Send(Frame.Option(Frame.StructuredReply));
        ExpectError(client, Frame.StructuredReply, ExtendedRequired);
        client.Send(Frame.GoFor(""));
        client.Expect(Frame.ExportInfo(4096, AllFlags | 0x80 | 0x1000));
    }

    [Fact]
    public async Task A_client_that_does_not_ask_for_big_blocks_is_told_about_them()
    {
        await using TestServer server = new(new TestDisk(10_000) { MinimumBlock = 4096 });
        using FakePeer client = server.Greet();
        client.Send(Frame.Option(Frame.Go, TestServer.Counted("") + Infos()));
        client.Expect(Frame.ExportInfo(8192, AllFlags) + Frame.BlockSizeInfo(4096, 4096, 32 << 20));
        ExpectError(client, Frame.Go, BlockSizeRequired);
        client.Send(Frame.GoFor(""));
        client.Expect(
            Frame.ExportInfo(8192, AllFlags) + Frame.BlockSizeInfo(4096, 4096, 32 << 20)
            + Frame.OptionReply(Frame.Go, Frame.Ack));
    }

    [Fact]
    public async Task A_read_only_server_announces_no_change()
    {
        await using TestServer server = new(new TestDisk(512), options => options with { ReadOnly = true });
        using FakePeer client = server.Greet();
        client.Send(Frame.GoFor(""));
        client.Expect(Frame.ExportInfo(512, 0x040f));
    }

    [Fact]
    public async Task All_options_may_come_in_one_packet_or_byte_by_byte()
    {
        await using TestServer server = new(new TestDisk(512));
        string talk = TestServer.HelloFlags + Frame.Option(Frame.StructuredReply) + Frame.GoFor("")
            + TestServer.Request(0, 1, 0, 1) + TestServer.Request(2, 2, 0, 0);
        string answer = Frame.OptionReply(Frame.StructuredReply, Frame.Ack) + Frame.ExportInfo(512, AllFlags | 0x80)
            + Frame.BlockSizeInfo(1, 4096, 32 << 20) + Frame.OptionReply(Frame.Go, Frame.Ack)
            + Frame.HoleChunk(true, 1, 0, 1);
        foreach (bool inOne in (bool[])[true, false])
        {
            using FakePeer client = server.Connect();
            client.Expect(Frame.Newstyle());
            if (inOne)
            {
                client.Send(talk);
            }
            else
            {
                client.SendByteByByte(talk);
            }

            client.Expect(answer);
            client.ExpectEnd();
        }
    }

    private static string Infos(params int[] types) =>
        Frame.U16(types.Length) + string.Concat(types.Select(type => Frame.U16(type)));

    private static void ExpectError(FakePeer client, uint option, uint error)
    {
        client.Expect(Frame.OptionReplyMagic + Frame.U32(option) + Frame.U32(error));
        int length = Convert.ToInt32(Convert.ToHexString(client.Receive(4)), 16);
        Assert.InRange(length, 1, 4096);
        _ = client.Receive(length);
    }
}
