using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

public sealed class CommandTimeoutTests
{
    private const int MiB = 1024 * 1024;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_command_that_is_not_answered_in_time_fails_and_its_buffer_is_left_alone()
    {
        using ManualResetEventSlim timedOut = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest late = peer.ReceiveRequest();
            Assert.True(timedOut.Wait(FakeNbdServer.TimeLimit));
            peer.Send(TransmissionTests.Data(late, 0, 512, true));
            peer.Send(TransmissionTests.Data(peer.ReceiveRequest(), 0, 512, true));
            peer.ExpectDisconnect();
        });
        NbdClientOptions options = new() { CommandTimeout = TimeSpan.FromMilliseconds(200) };
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server, options))
        {
            byte[] abandoned = new byte[512];
            NbdException exception = await Assert.ThrowsAsync<NbdException>(
                async () => await client.ReadAsync(0, abandoned, Token));
            Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
            Assert.Equal(
                $"READ of 512 bytes at offset 0 on {server.Endpoint.FormatUri("")}: no answer within 0.2 s",
                exception.Message);
            timedOut.Set();

            byte[] kept = new byte[512];
            await client.ReadAsync(1024, kept, Token);
            Assert.Equal(TransmissionTests.Pattern(1024, 512), kept);
            Assert.All(abandoned, value => Assert.Equal(0, value));
        }

        server.Finish();
    }

    [Fact]
    public async Task Commands_that_are_answered_in_time_may_be_as_many_as_you_like()
    {
        MemoryDisk disk = new(MiB);
        using FakeNbdServer server = new(disk.Serve);
        NbdClientOptions options = new() { CommandTimeout = FakeNbdServer.TimeLimit };
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server, options))
        {
            byte[] written = TransmissionTests.Pattern(0, 4096);
            byte[] read = new byte[4096];
            for (int i = 0; i < 100; i++)
            {
                await client.WriteAsync(i * 4096, written, cancellationToken: Token);
                await client.ReadAsync(i * 4096, read, Token);
                Assert.Equal(written, read);
            }
        }

        server.Finish();
    }

    [Fact]
    public async Task A_time_limit_of_nothing_is_refused()
    {
        NbdClientOptions options = new() { CommandTimeout = TimeSpan.Zero };
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(
            () => NbdClient.ConnectAsync(new NbdEndpoint.Unix("/nowhere"), "", options, Token));
    }
}
