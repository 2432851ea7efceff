using System.Collections.Concurrent;
using System.Net.Sockets;
using global::Nbd;
using UnitTests.Nbd;

namespace UnitTests.Serving;

/// <summary>A server on a Unix socket of its own, which must have nothing to say when the test ends.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    internal const string HelloFlags = "00000003";

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("nbd-");
    private readonly ConcurrentQueue<string> _log = new();

    /// <param name="disk">Every export.</param>
    /// <param name="with">Changes the options.</param>
    /// <param name="isStarted">False: clients can connect and talk, but nobody hears them before it is started.</param>
    internal TestServer(TestDisk disk, Func<NbdServerOptions, NbdServerOptions>? with = null, bool isStarted = true)
        : this(name => Open(disk, name), with, isStarted)
    {
    }

    internal TestServer(
        Func<string, NbdBackend?> open, Func<NbdServerOptions, NbdServerOptions>? with = null, bool isStarted = true)
    {
        NbdServerOptions options = new()
        {
            OpenExport = (name, _) => ValueTask.FromResult(open(name)),
            Log = _log.Enqueue,
        };
        Server = new(with is null ? options : with(options));
        Server.ListenUnix(SocketPath);
        if (isStarted)
        {
            Server.Start();
        }
    }

    internal NbdServer Server { get; }

    internal string SocketPath => Path.Combine(_directory.FullName, "s");

    internal NbdEndpoint.Unix Endpoint => new(SocketPath);

    internal IReadOnlyList<string> Log => [.. _log];

    /// <summary>A raw client. Its peer is called so because the fake server's tests have the same scripts.</summary>
    internal FakePeer Connect() => new(ConnectSocket());

    internal Socket ConnectSocket()
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(SocketPath));
        return socket;
    }

    /// <summary>A raw client that has answered the greeting.</summary>
    internal FakePeer Greet(string flags = HelloFlags)
    {
        FakePeer client = Connect();
        client.Expect(Frame.Newstyle());
        client.Send(flags);
        return client;
    }

    /// <summary>A raw client in the transmission phase.</summary>
    internal FakePeer Enter(Style style = Style.Structured, bool allocation = true, string name = "")
    {
        FakePeer client = Greet();
        if (style != Style.Simple)
        {
            Ask(client, style == Style.Extended ? 11u : Frame.StructuredReply, "", Frame.Ack);
        }

        if (style != Style.Simple && allocation)
        {
            client.Send(Frame.Option(10, MetaQuery(name, "base:allocation")));
            client.Expect(
                Frame.OptionReply(10, 4, Frame.U32(1) + Frame.Text("base:allocation")) + Frame.OptionReply(10, Frame.Ack));
        }

        client.Send(Frame.GoFor(name));
        _ = client.Receive(20 + 12);
        _ = client.Receive(20 + 14);
        client.Expect(Frame.OptionReply(Frame.Go, Frame.Ack));
        return client;
    }

    internal static void Ask(FakePeer client, uint option, string data, uint reply)
    {
        client.Send(Frame.Option(option, data));
        client.Expect(Frame.OptionReply(option, reply));
    }

    internal static string MetaQuery(string name, params string[] queries) =>
        Counted(name) + Frame.U32((uint)queries.Length) + string.Concat(queries.Select(Counted));

    internal static string Counted(string text) => Frame.U32((uint)Frame.Text(text).Length / 2) + Frame.Text(text);

    internal static string Request(int type, ulong cookie, ulong offset, uint length, int flags = 0, string data = "") =>
        "25609513" + Frame.U16(flags) + Frame.U16(type) + Frame.U64(cookie) + Frame.U64(offset) + Frame.U32(length) + data;

    internal static string Extended(int type, ulong cookie, ulong offset, ulong length, int flags = 0, string data = "") =>
        "21e41c71" + Frame.U16(flags) + Frame.U16(type) + Frame.U64(cookie) + Frame.U64(offset) + Frame.U64(length) + data;

    internal static string ExtendedChunk(int type, ulong cookie, ulong offset, string payload = "", bool done = true) =>
        "6e8a278c" + Frame.U16(done ? 1 : 0) + Frame.U16(type) + Frame.U64(cookie) + Frame.U64(offset)
        + Frame.U64((ulong)payload.Length / 2) + payload;

    /// <summary>Waits for something that happens soon.</summary>
    internal static async Task Until(Func<bool> condition, string what)
    {
        long end = Environment.TickCount64 + (long)FakeNbdServer.TimeLimit.TotalMilliseconds;
        while (!condition())
        {
            Assert.True(Environment.TickCount64 < end, $"still waiting: {what}");
            await Task.Yield();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        _directory.Delete(recursive: true);
    }

    private static TestDisk? Open(TestDisk disk, string name)
    {
        if (name.StartsWith("no ", StringComparison.Ordinal))
        {
            return null;
        }

        if (name == "broken")
        {
            throw new IOException("the medium\nis broken");
        }

        disk.Opened++;
        return disk;
    }
}

/// <summary>What a raw client negotiates.</summary>
public enum Style
{
    /// <summary>Simple replies.</summary>
    Simple,

    /// <summary>Structured replies.</summary>
    Structured,

    /// <summary>Extended headers.</summary>
    Extended,
}
