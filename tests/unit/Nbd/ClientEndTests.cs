using global::Nbd;
using global::Nbd.Protocol;
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

    [Theory]
    [InlineData(0x0c6d)]
    [InlineData(0x0c65)]
    public async Task Disposing_waits_for_all_pieces_and_the_flush_that_stands_in_for_FUA(int flags)
    {
        const int Length = 7 * MiB;
        bool hasForceUnitAccess = (flags & 8) != 0;
        using ManualResetEventSlim disposing = new();
        byte[] received = new byte[Length];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(Length, flags);
            FakeRequest request = peer.ReceiveRequest();
            Assert.True(disposing.Wait(FakeNbdServer.TimeLimit));
            for (; request.Type == 1; request = peer.ReceiveRequest())
            {
                Assert.Equal(hasForceUnitAccess ? 1 : 0, request.Flags);
                request.Payload.CopyTo(received, (int)request.Offset);
                peer.Send(Frame.SimpleReply(0, request.Cookie));
            }

            // With FUA that is the client's own, without it the writer's.
            Assert.Equal(3, request.Type);
            peer.Send(Frame.SimpleReply(0, request.Cookie));
            peer.ExpectDisconnect();
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server);
        byte[] data = TransmissionTests.Pattern(0, Length);
        Task write = client.WriteAsync(0, data, NbdCommandFlags.ForceUnitAccess, Token).AsTask();
        Task disposed = client.DisposeAsync().AsTask();
        await Assert.ThrowsAsync<ObjectDisposedException>(
            async () => await client.WriteAsync(0, data, cancellationToken: Token));
        disposing.Set();

        await write;
        await disposed;
        server.Finish();
        Assert.Equal(data, received);
        Assert.Equal(0, client.CommandsInFlight);
    }

    [Fact]
    public async Task What_disposing_does_not_wait_for_any_longer_fails_and_says_why()
    {
        using ManualResetEventSlim answered = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(8 * MiB);
            peer.Send(Frame.SimpleReply(0, peer.ReceiveRequest().Cookie));
            answered.Set();
            peer.Drain();
        });
        NbdClient client = await NbdClientTests.ConnectAsync(
            server, new NbdClientOptions { CloseTimeout = TimeSpan.FromMilliseconds(50) });
        Task write = client.WriteAsync(0, new byte[7 * MiB], cancellationToken: Token).AsTask();
        Assert.True(answered.Wait(FakeNbdServer.TimeLimit, Token));
        // What the server did not answer cannot be flushed.
        _ = await Record.ExceptionAsync(async () => await client.DisposeAsync());

        NbdException exception = await Assert.ThrowsAsync<NbdException>(() => write);
        Assert.Equal(Errno.EIO, exception.Errno);
        Assert.StartsWith("WRITE of ", exception.Message);
        Assert.EndsWith("connection lost: closed by DisposeAsync, which had waited 0.05 s for answers", exception.Message);
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
