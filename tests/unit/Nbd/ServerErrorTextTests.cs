using System.Collections.Concurrent;
using System.Text;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;
using UnitTests.Serving;

namespace UnitTests.Nbd;

/// <summary>What a server says about an error reaches the caller, and nothing else of it does.</summary>
public sealed class ServerErrorTextTests
{
    private const int MiB = 1024 * 1024;
    private const int Error = 0x8001;
    private const int ErrorOffset = 0x8002;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>The bytes of a text, and what is shown of them.</summary>
    private static readonly Dictionary<string, (byte[] Text, string Shown)> s_texts = new()
    {
        ["a text"] = ("disk on fire"u8.ToArray(), "; server said: disk on fire"),
        ["no text"] = ([], ""),
        ["control characters"] =
            ("a\x1b[31m\nb\0\u0085\u202ec"u8.ToArray(), "; server said: a?[31m?b???c"),
        ["invalid UTF-8"] = ([0xff, 0xfe, 0x41, 0xc3], "; server said: \ufffd\ufffdA\ufffd"),
        ["the longest text"] = (Encoding.UTF8.GetBytes(new string('x', 4096)), $"; server said: {new string('x', 300)}..."),
        ["a text longer than the specification allows"] =
            (Encoding.UTF8.GetBytes(new string('x', 8186)), $"; server said: {new string('x', 300)}..."),
    };

    public static TheoryData<string> Texts => [.. s_texts.Keys];

    [Theory]
    [MemberData(nameof(Texts))]
    public async Task The_text_is_in_the_message(string name)
    {
        (byte[] text, string shown) = s_texts[name];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.Chunk(true, Error, peer.ReceiveRequest().Cookie, Said(28, text)));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            await AssertFailsAsync(
                () => client.ReadAsync(512, new byte[100], Token),
                Errno.ENOSPC,
                $"READ of 100 bytes at offset 512 on {server.Endpoint.FormatUri("")}: No space left on device{shown}");
        }

        server.Finish();
    }

    [Theory]
    [InlineData("bad sector", "; server said: bad sector (at offset 4660)")]
    [InlineData("", "; server said: error at offset 4660")]
    public async Task The_offset_of_the_error_is_in_the_message(string text, string shown)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(Frame.Chunk(false, ErrorOffset, read.Cookie, Said(5, text) + Frame.U64(0x1234)));
            peer.Send(TransmissionTests.Data(read, 0, read.Length, true));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            await AssertFailsAsync(
                () => client.ReadAsync(4096, new byte[4096], Token), Errno.EIO, $"Input/output error{shown}");
        }

        server.Finish();
    }

    [Fact]
    public async Task The_first_error_of_a_reply_counts()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(Frame.ErrorChunk(false, read.Cookie, 12, "first"));
            peer.Send(Frame.Chunk(false, ErrorOffset, read.Cookie, Said(12, "second") + Frame.U64(1)));
            peer.Send(Frame.ErrorChunk(true, read.Cookie, 5, "third"));
            FakeRequest silent = peer.ReceiveRequest();
            peer.Send(Frame.ErrorChunk(false, silent.Cookie, 12) + Frame.ErrorChunk(true, silent.Cookie, 12, "late"));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            await AssertFailsAsync(
                () => client.ReadAsync(0, new byte[512], Token), Errno.ENOMEM, "Cannot allocate memory; server said: first");
            await AssertFailsAsync(
                () => client.ReadAsync(0, new byte[512], Token), Errno.ENOMEM, "Cannot allocate memory");
        }

        server.Finish();
    }

    [Fact]
    public async Task A_text_is_forgotten_with_its_command()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.ErrorChunk(true, peer.ReceiveRequest().Cookie, 5, "old"));
            peer.Send(Frame.SimpleReply(5, peer.ReceiveRequest().Cookie));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            await AssertFailsAsync(() => client.ReadAsync(0, new byte[512], Token), Errno.EIO, "; server said: old");
            await AssertFailsAsync(() => client.ReadAsync(0, new byte[512], Token), Errno.EIO, ": Input/output error");
        }

        server.Finish();
    }

    [Theory]
    [MemberData(nameof(EveryCommand.Names), MemberType = typeof(EveryCommand))]
    public async Task Every_command_has_the_text(string command)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(
                extended: false, ["base:allocation"], size: 4 * MiB, extraInfos: Frame.BlockSizeInfo(512, 4096, 32 * MiB));
            for (FakeRequest request = peer.ReceiveRequest(); request.Type != 2; request = peer.ReceiveRequest())
            {
                peer.Send(Frame.ErrorChunk(true, request.Cookie, 5, "disk on fire"));
            }
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server, new() { MetaContexts = ["base:allocation"] });

        await AssertFailsAsync(() => EveryCommand.Send(command, client), Errno.EIO, "Input/output error; server said: disk on fire");

        if (await Record.ExceptionAsync(async () => await client.DisposeAsync()) is Exception failedFlush)
        {
            Assert.EndsWith(": Input/output error; server said: disk on fire", failedFlush.Message);
        }

        server.Finish();
    }

    [Fact]
    public async Task A_series_tells_about_the_error_that_it_ends_with()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.ErrorChunk(true, peer.ReceiveRequest().Cookie, 95, "cannot zero"));
            FakeRequest write = peer.ReceiveRequest();
            Assert.Equal(1, write.Type);
            peer.Send(Frame.ErrorChunk(true, write.Cookie, 28, "full"));
            peer.Send(Frame.ErrorChunk(true, peer.ReceiveRequest().Cookie, 95, "cannot zero"));
            peer.Send(Frame.SimpleReply(28, peer.ReceiveRequest().Cookie));
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            await AssertFailsAsync(
                () => client.WriteZeroesAsync(0, 512, cancellationToken: Token), Errno.ENOSPC, "device; server said: full");
            await AssertFailsAsync(
                () => client.WriteZeroesAsync(0, 512, cancellationToken: Token), Errno.ENOSPC, "on device");
        }

        server.Finish();
    }

    [Fact]
    public async Task What_a_backend_of_our_server_throws_is_in_the_message()
    {
        TestDisk disk = new(MiB)
        {
            Before = call => call == "flush" ? Task.CompletedTask : throw new IOException("the medium\nis broken"),
        };
        await using TestServer server = new(disk);
        await using NbdClient client = await NbdClient.ConnectAsync(server.Endpoint, cancellationToken: Token);

        await AssertFailsAsync(
            () => client.TrimAsync(0, 512, cancellationToken: Token),
            Errno.EIO,
            "Input/output error; server said: the medium?is broken");
    }

    [Fact]
    public void The_pool_tells_before_the_completion_comes()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.ErrorChunk(true, peer.ReceiveRequest().Cookie, 5));
            peer.Send(Frame.SimpleReply(5, peer.ReceiveRequest().Cookie));
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(Frame.Chunk(true, ErrorOffset, read.Cookie, Said(5, "torn") + Frame.U64(4097)));
            peer.Drain();
        });
        using NbdConnectionPool pool = TransmissionTests.Connect(server);
        ConcurrentQueue<string> told = [];
        pool.ServerError = error => told.Enqueue($"pool: {error}");
        for (int i = 0; i < 3; i++)
        {
            ToldCompletion read = new(told);
            Assert.Equal(Errno.None, pool.Read(4096, 512, NbdCommandFlags.None, read));
            Assert.True(read.Ended.Wait(FakeNbdServer.TimeLimit, Token));
        }

        const string Text = "READ of 512 bytes at offset 4096: Input/output error; server said: torn (at offset 4097)";
        Assert.Equal(["EIO", "EIO", Text, $"pool: {Text}", "EIO"], told);
    }

    private static string Said(uint error, string text) => Said(error, Encoding.UTF8.GetBytes(text));

    private static string Said(uint error, byte[] text) => Frame.U32(error) + Frame.U16(text.Length) + Frame.Bytes(text);

    private static async Task AssertFailsAsync(Func<ValueTask> command, Errno errno, string end)
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(async () => await command());
        Assert.EndsWith(end, exception.Message);
        Assert.Equal(errno, exception.Errno);
    }

    private sealed unsafe class ToldCompletion(ConcurrentQueue<string> told) : NbdCompletion
    {
        internal ManualResetEventSlim Ended { get; } = new();

        protected internal override void OnServerError(NbdServerError said) => told.Enqueue($"{said}");

        protected internal override void OnCompleted(Errno outcome, byte* data)
        {
            told.Enqueue($"{outcome}");
            Ended.Set();
        }
    }
}
