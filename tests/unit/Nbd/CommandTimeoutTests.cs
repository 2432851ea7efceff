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
            // The connection was not lost.
            peer.ExpectDisconnect();
        });
        NbdClientOptions options = new() { CommandTimeout = TimeSpan.FromMilliseconds(50) };
        byte[] abandoned = new byte[512];
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server, options))
        {
            NbdException exception = await Assert.ThrowsAsync<NbdException>(
                async () => await client.ReadAsync(0, abandoned, Token));
            Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
            Assert.Equal(
                $"READ of 512 bytes at offset 0 on {server.Endpoint.FormatUri("")}: no answer within 0.05 s",
                exception.Message);
            timedOut.Set();
            // Disposing waits for the late answer.
        }

        server.Finish();
        Assert.All(abandoned, value => Assert.Equal(0, value));
    }

    [Fact]
    public async Task The_data_of_a_write_that_timed_out_is_the_data_at_its_start()
    {
        const int Length = 4 * MiB;
        using ManualResetEventSlim overwritten = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(Length);
            Assert.True(overwritten.Wait(FakeNbdServer.TimeLimit));
            peer.AnswerWrites(0x11);

            // The FLUSH of the end is answered by nobody.
        });
        NbdClientOptions options = new() { CommandTimeout = TimeSpan.FromMilliseconds(200) };
        NbdClient client = await NbdClientTests.ConnectAsync(server, options);
        byte[] data = new byte[Length];
        data.AsSpan().Fill(0x11);
        // A token would be a reason to copy, too.
        NbdException exception = await Assert.ThrowsAsync<NbdException>(
            async () => await client.WriteAsync(0, data, cancellationToken: CancellationToken.None));
        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
        data.AsSpan().Fill(0x22);
        overwritten.Set();

        await Assert.ThrowsAsync<NbdException>(async () => await client.DisposeAsync());
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

    [Theory]
    [MemberData(nameof(EveryCommand.Names), MemberType = typeof(EveryCommand))]
    public async Task The_limit_is_for_every_command(string command)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(
                extended: false, ["base:allocation"], size: 4 * MiB, extraInfos: Frame.BlockSizeInfo(512, 4096, 32 * MiB));
            peer.Drain();
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server, new NbdClientOptions
        {
            CommandTimeout = TimeSpan.FromMilliseconds(50),
            CloseTimeout = TimeSpan.FromMilliseconds(50),
            MetaContexts = ["base:allocation"],
        });

        NbdException exception = await Assert.ThrowsAsync<NbdException>(async () => await EveryCommand.Send(command, client));

        Assert.Equal(Errno.ETIMEDOUT, exception.Errno);
        Assert.StartsWith(command.Split(' ')[0] + " ", exception.Message);
        // What may have been changed cannot be flushed any more.
        _ = await Record.ExceptionAsync(async () => await client.DisposeAsync());
        server.Finish();
    }

    public static TheoryData<string> WrongLimits =>
    [
        nameof(NbdClientOptions.CommandTimeout), nameof(NbdClientOptions.ConnectTimeout), nameof(NbdClientOptions.CloseTimeout),
    ];

    [Theory]
    [MemberData(nameof(WrongLimits))]
    public async Task A_time_limit_of_nothing_is_refused(string limit)
    {
        foreach (TimeSpan wrong in new[] { TimeSpan.Zero, TimeSpan.FromSeconds(-1), TimeSpan.FromDays(50) })
        {
            NbdClientOptions options = limit switch
            {
                nameof(NbdClientOptions.CommandTimeout) => new() { CommandTimeout = wrong },
                nameof(NbdClientOptions.ConnectTimeout) => new() { ConnectTimeout = wrong },
                _ => new() { CloseTimeout = wrong },
            };
            NbdEndpoint nowhere = new NbdEndpoint.Unix("/nowhere");
            foreach (Func<Task> connect in new Func<Task>[]
            {
                () => NbdClient.ConnectAsync(nowhere, "", options, Token),
                () => NbdClient.ListExportsAsync(nowhere, options, cancellationToken: Token),
                () => NbdClient.GetExportAsync(nowhere, "", options, Token),
            })
            {
                Assert.Contains(limit, (await Assert.ThrowsAsync<ArgumentOutOfRangeException>(connect)).Message);
            }
        }
    }
}
