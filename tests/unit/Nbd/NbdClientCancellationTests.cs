using global::Nbd;

namespace UnitTests.Nbd;

public sealed class NbdClientCancellationTests
{
    private const int MiB = 1024 * 1024;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_cancelled_command_ends_at_once_and_leaves_the_buffer_alone()
    {
        using ManualResetEventSlim cancelled = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            (FakeRequest first, FakeRequest second) = (peer.ReceiveRequest(), peer.ReceiveRequest());
            Assert.True(cancelled.Wait(FakeNbdServer.TimeLimit));
            peer.Send(TransmissionTests.Data(first, 0, 512, true) + TransmissionTests.Data(second, 0, 512, true));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            using CancellationTokenSource cancellation = new();
            byte[] abandoned = new byte[512];
            byte[] kept = new byte[512];
            Task first = client.ReadAsync(0, abandoned, cancellation.Token).AsTask();
            Task second = client.ReadAsync(1024, kept, Token).AsTask();

            await cancellation.CancelAsync();
            OperationCanceledException exception =
                await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
            Assert.Equal(cancellation.Token, exception.CancellationToken);
            cancelled.Set();

            await second;
            Assert.Equal(TransmissionTests.Pattern(1024, 512), kept);
            Assert.All(abandoned, value => Assert.Equal(0, value));
        }

        server.Finish();
    }

    [Fact]
    public async Task Only_a_read_that_nobody_can_cancel_is_received_where_it_belongs()
    {
        const int Large = 256 << 10;
        using ManualResetEventSlim cancelled = new();
        using ManualResetEventSlim seen = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest first = peer.ReceiveRequest();
            byte[] reply = Convert.FromHexString(TransmissionTests.Data(first, 0, Large, true));
            peer.Send(reply[..(Large / 2)]);
            Assert.True(cancelled.Wait(FakeNbdServer.TimeLimit));
            peer.Send(reply[(Large / 2)..]);
            FakeRequest second = peer.ReceiveRequest();
            reply = Convert.FromHexString(TransmissionTests.Data(second, 0, Large, true));
            peer.Send(reply[..^1]);
            Assert.True(seen.Wait(FakeNbdServer.TimeLimit));
            peer.Send(reply[^1..]);
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            using CancellationTokenSource cancellation = new();
            byte[] abandoned = new byte[Large];
            byte[] kept = new byte[Large];
            Task first = client.ReadAsync(0, abandoned, cancellation.Token).AsTask();
            await cancellation.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
            cancelled.Set();

            // Its data is there before the reply is.
            Task second = client.ReadAsync(4096, kept, CancellationToken.None).AsTask();
            byte[] expected = TransmissionTests.Pattern(4096, Large);
            Assert.True(SpinWait.SpinUntil(
                () => kept.AsSpan(0, Large / 2).SequenceEqual(expected.AsSpan(0, Large / 2)), FakeNbdServer.TimeLimit));
            seen.Set();
            await second.WaitAsync(FakeNbdServer.TimeLimit, Token);
            Assert.Equal(expected, kept);
            Assert.All(abandoned, value => Assert.Equal(0, value));
        }

        server.Finish();
    }

    [Fact]
    public async Task The_data_of_a_cancelled_write_is_the_data_at_its_start()
    {
        const int Length = 4 * MiB;
        using ManualResetEventSlim overwritten = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(Length);
            Assert.True(overwritten.Wait(FakeNbdServer.TimeLimit));
            peer.AnswerWrites(0x11);
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server);
        using CancellationTokenSource cancellation = new();
        byte[] data = new byte[Length];
        data.AsSpan().Fill(0x11);
        Task write = client.WriteAsync(0, data, cancellationToken: cancellation.Token).AsTask();

        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => write);
        data.AsSpan().Fill(0x22);
        overwritten.Set();

        // The FLUSH of the end is answered by nobody.
        await Assert.ThrowsAsync<NbdException>(async () => await client.DisposeAsync());
        server.Finish();
    }

    [Fact]
    public async Task Cancelling_at_any_moment_neither_mixes_up_nor_loses_commands()
    {
        MemoryDisk disk = new(MiB);
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            byte[] all = TransmissionTests.Pattern(0, MiB);
            await client.WriteAsync(0, all, cancellationToken: Token);
            await Task.WhenAll(Enumerable.Range(0, 8).Select(task => Task.Run(
                async () =>
                {
                    Random random = new(task);
                    byte[] buffer = new byte[4096];
                    for (int round = 0; round < 300; round++)
                    {
                        using CancellationTokenSource cancellation = new();
                        int offset = random.Next(MiB - buffer.Length);
                        buffer.AsSpan().Clear();
                        Task read = client.ReadAsync(offset, buffer, cancellation.Token).AsTask();
                        Thread.SpinWait(random.Next(2000));
                        await cancellation.CancelAsync();
                        try
                        {
                            await read;
                            Assert.True(all.AsSpan(offset, buffer.Length).SequenceEqual(buffer));
                        }
                        catch (OperationCanceledException)
                        {
                            Assert.Equal(-1, buffer.AsSpan().IndexOfAnyExcept((byte)0));
                        }
                    }
                },
                Token)));
        }

        server.Finish();
    }

    [Fact]
    public async Task A_token_that_is_cancelled_already_sends_nothing()
    {
        MemoryDisk disk = new(MiB);
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            CancellationToken cancelled = new(true);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(
                async () => await client.ReadAsync(0, new byte[1], cancelled));
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await client.FlushAsync(cancelled));
        }

        server.Finish();
        Assert.Equal([2], disk.Commands.Select(c => c.Type));
    }

    [Fact]
    public async Task Connecting_can_be_cancelled()
    {
        using CancellationTokenSource cancellation = new();
        using FakeNbdServer server = new(peer =>
        {
            cancellation.Cancel();
            peer.Drain();
        });

        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            () => NbdClient.ConnectAsync(server.Endpoint, "", null, cancellation.Token));
        server.Finish();
    }
}
