using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>What is in flight when a client is disposed, and afterwards.</summary>
public sealed class ClientEndTests
{
    private const int MiB = 1024 * 1024;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Disposing_waits_for_the_commands_in_flight()
    {
        using ManualResetEventSlim disposing = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest read = peer.ReceiveRequest();
            Assert.True(disposing.Wait(FakeNbdServer.TimeLimit));
            peer.Send(TransmissionTests.Data(read, 0, 512, true));
            peer.ExpectDisconnect();
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server);
        byte[] buffer = new byte[512];
        Task read = client.ReadAsync(0, buffer, Token).AsTask();
        Task disposed = client.DisposeAsync().AsTask();
        disposing.Set();

        await read;
        await disposed;
        Assert.Equal(TransmissionTests.Pattern(0, 512), buffer);
        server.Finish();
    }

    [Fact]
    public async Task Disposing_waits_for_what_takes_several_commands()
    {
        using ManualResetEventSlim disposing = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(extraInfos: Frame.BlockSizeInfo(512, 4096, 32 * MiB));
            FakeRequest read = peer.ReceiveRequest();
            Assert.True(disposing.Wait(FakeNbdServer.TimeLimit));
            peer.Send(TransmissionTests.Data(read, 0, 512, true));
            FakeRequest write = peer.ReceiveRequest();
            Assert.Equal((1, 512), (write.Type, write.Payload.Length));
            peer.Send(Frame.SimpleReply(0, write.Cookie));
            FakeRequest flush = peer.ReceiveRequest();
            Assert.Equal(3, flush.Type);
            peer.Send(Frame.SimpleReply(0, flush.Cookie));
            peer.ExpectDisconnect();
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server);
        Task write = client.WriteAsync(1, new byte[5], cancellationToken: Token).AsTask();
        Task disposed = client.DisposeAsync().AsTask();
        disposing.Set();

        await write;
        await disposed;
        server.Finish();
    }

    [Fact]
    public async Task Disposing_does_not_wait_for_ever()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Drain();
        });
        NbdClient client = await NbdClientTests.ConnectAsync(
            server, new NbdClientOptions { CloseTimeout = TimeSpan.FromMilliseconds(50) });
        Task read = client.ReadAsync(0, new byte[512], Token).AsTask();
        await client.DisposeAsync();

        Assert.Equal(Errno.EIO, (await Assert.ThrowsAsync<NbdException>(() => read)).Errno);
        server.Finish();
    }

    [Fact]
    public async Task A_disposed_client_refuses_commands_and_may_be_disposed_again()
    {
        MemoryDisk disk = new(MiB);
        using FakeNbdServer server = new(disk.Serve);
        NbdClient client = await NbdClientTests.ConnectAsync(server);
        await client.DisposeAsync();
        await client.DisposeAsync();

        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await client.ReadAsync(0, new byte[1], Token));
        server.Finish();
    }
}
