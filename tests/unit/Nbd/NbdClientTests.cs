using System.Diagnostics;
using global::Nbd;
using global::Nbd.Protocol;
using Linux;

namespace UnitTests.Nbd;

public sealed class NbdClientTests
{
    private const int MiB = 1024 * 1024;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_was_written_is_read_back()
    {
        MemoryDisk disk = new(MiB);
        using FakeNbdServer server = new(peer => disk.Serve(peer));
        await using (NbdClient client = await ConnectAsync(server))
        {
            Assert.Equal(MiB, client.Export.SizeBytes);
            Assert.Equal(1, client.ConnectionCount);
            byte[] written = TransmissionTests.Pattern(1, 5000);
            await client.WriteAsync(100, written, cancellationToken: Token);
            byte[] read = new byte[5002];
            await client.ReadAsync(99, read, Token);
            Assert.Equal([0, .. written, 0], read);

            await client.WriteZeroesAsync(100, 4000, cancellationToken: Token);
            await client.ReadAsync(99, read, Token);
            Assert.Equal([.. new byte[4001], .. written[4000..], 0], read);
        }

        server.Finish();
        Assert.Equal([1, 0, 6, 0, 3, 2], disk.Commands.Select(c => c.Type));
    }

    [Fact]
    public async Task Many_commands_run_at_once_over_all_connections()
    {
        const int Tasks = 64;
        const int Block = 4096;
        MemoryDisk disk = new(Tasks * Block, MemoryDisk.AllFlags | 0x100);
        using FakeNbdServer server = new(disk.Serve, disk.Serve, disk.Serve);
        await using (NbdClient client = await ConnectAsync(server, new NbdClientOptions { Connections = 3 }))
        {
            Assert.Equal(3, client.ConnectionCount);
            await Task.WhenAll(Enumerable.Range(0, Tasks).Select(async task =>
            {
                byte[] read = new byte[Block];
                for (int round = 0; round < 50; round++)
                {
                    byte[] written = TransmissionTests.Pattern((ulong)(task + (round * 1000)), Block);
                    await client.WriteAsync(task * Block, written, cancellationToken: Token);
                    await client.ReadAsync(task * Block, read, Token);
                    Assert.Equal(written, read);
                }
            }));
        }

        server.Finish();
    }

    [Fact]
    public async Task Write_through_becomes_a_flush_where_the_server_has_no_FUA()
    {
        MemoryDisk with = new(MiB);
        MemoryDisk without = new(MiB, MemoryDisk.AllFlags & ~8);
        foreach (MemoryDisk disk in new[] { with, without })
        {
            using FakeNbdServer server = new(disk.Serve);
            await using (NbdClient client = await ConnectAsync(server))
            {
                await client.WriteAsync(0, new byte[512], NbdCommandFlags.ForceUnitAccess, Token);
            }

            server.Finish();
        }

        Assert.Equal((1, 1), (with.Commands[0].Type, with.Commands[0].Flags));
        Assert.Equal((1, 0), (without.Commands[0].Type, without.Commands[0].Flags));
        Assert.Equal(3, without.Commands[1].Type);
        Assert.Equal(2, without.Commands[2].Type);
    }

    [Fact]
    public async Task Empty_commands_and_flushes_without_FLUSH_send_nothing()
    {
        MemoryDisk disk = new(MiB, 0x0061);
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await ConnectAsync(server))
        {
            await client.ReadAsync(MiB, Memory<byte>.Empty, Token);
            await client.WriteAsync(0, ReadOnlyMemory<byte>.Empty, cancellationToken: Token);
            await client.TrimAsync(5, 0, cancellationToken: Token);
            await client.FlushAsync(Token);
        }

        server.Finish();
        Assert.Equal([2], disk.Commands.Select(c => c.Type));
    }

    [Fact]
    public async Task Ranges_outside_the_export_and_unsupported_commands_are_refused_before_they_are_sent()
    {
        MemoryDisk disk = new(MiB, 0x0041);
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await ConnectAsync(server))
        {
            byte[] two = new byte[2];
            await RefuseAsync(Errno.EINVAL, () => client.ReadAsync(MiB - 1, two, Token), "reach past the end");
            await RefuseAsync(Errno.EINVAL, () => client.ReadAsync(long.MaxValue, two, Token), "reach past the end");
            await RefuseAsync(Errno.ENOSPC, () => client.WriteAsync(MiB - 1, two, cancellationToken: Token), "past");
            await RefuseAsync(
                Errno.ENOSPC, () => client.WriteZeroesAsync(1, long.MaxValue, cancellationToken: Token), "past");
            await RefuseAsync(Errno.EOPNOTSUPP, () => client.TrimAsync(0, 1, cancellationToken: Token), "TRIM on");
            await RefuseAsync(Errno.EOPNOTSUPP, () => client.CacheAsync(0, 1, Token), "CACHE on");
            await RefuseAsync(
                Errno.EOPNOTSUPP, () => client.WriteZeroesAsync(0, 1, NbdCommandFlags.FastZero, Token), "WRITE_ZEROES");
            await Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await client.ReadAsync(-1, two, Token));
            await Assert.ThrowsAsync<ArgumentException>(
                async () => await client.WriteAsync(0, two, NbdCommandFlags.NoHole, Token));
        }

        server.Finish();
        Assert.Equal([2], disk.Commands.Select(c => c.Type));
    }

    [Fact]
    public async Task A_read_only_export_refuses_changes()
    {
        MemoryDisk disk = new(MiB, MemoryDisk.AllFlags | 2);
        using FakeNbdServer server = new(disk.Serve);
        await using NbdClient client = await ConnectAsync(server);

        await RefuseAsync(Errno.EROFS, () => client.WriteAsync(0, new byte[1], cancellationToken: Token), "read-only");
        await RefuseAsync(Errno.EROFS, () => client.TrimAsync(0, 1, cancellationToken: Token), "read-only");
        await RefuseAsync(Errno.EROFS, () => client.WriteZeroesAsync(0, 1, cancellationToken: Token), "read-only");
        await client.ReadAsync(0, new byte[1], Token);
    }

    [Fact]
    public async Task Parts_of_blocks_are_read_and_written_where_the_server_wants_whole_ones()
    {
        MemoryDisk disk = new(MiB) { ExtraInfos = Frame.BlockSizeInfo(4096, 4096, 65536) };
        using FakeNbdServer server = new(disk.Serve);
        await using NbdClient client = await ConnectAsync(server);

        byte[] written = TransmissionTests.Pattern(1, 200_000);
        await client.WriteAsync(513, written, cancellationToken: Token);
        await client.WriteZeroesAsync(600, 5000, cancellationToken: Token);
        written.AsSpan(87, 5000).Clear();
        await client.TrimAsync(514, 2000, cancellationToken: Token);
        byte[] read = new byte[200_002];
        await client.ReadAsync(512, read, Token);
        Assert.Equal([0, .. written, 0], read);
        Assert.All(disk.Commands, command => Assert.Equal(0ul, (command.Offset | command.Length) % 4096));
    }

    [Fact]
    public async Task An_error_of_the_server_says_what_failed()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            peer.Send(Frame.SimpleReply(28, peer.ReceiveRequest().Cookie));
            peer.Drain();
        });
        NbdClient client = await ConnectAsync(server);

        NbdException exception = await Assert.ThrowsAsync<NbdException>(
            async () => await client.WriteAsync(512, new byte[100], cancellationToken: Token));

        Assert.Equal(
            $"WRITE of 100 bytes at offset 512 on {server.Endpoint.FormatUri("")}: No space left on device",
            exception.Message);
        Assert.Equal(Errno.ENOSPC, exception.Errno);
    }

    [Fact]
    public async Task A_lost_connection_is_named_with_its_reason()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(flags: 1);
            _ = peer.ReceiveRequest();
            peer.Send("deadbeef" + Frame.Zeroes(12));
        });
        await using NbdClient client = await ConnectAsync(server);
        await Assert.ThrowsAsync<NbdException>(async () => await client.ReadAsync(0, new byte[1], Token));

        // The reason is known from the second failure at the latest.
        NbdException exception;
        do
        {
            exception = await Assert.ThrowsAsync<NbdException>(
                async () => await client.ReadAsync(0, new byte[1], Token));
        }
        while (exception.InnerException is null);

        Assert.Contains("connection lost:", exception.Message);
        Assert.Contains("0xdeadbeef", exception.Message);
        Assert.Equal(Errno.EIO, exception.Errno);
    }

    [Fact]
    public async Task A_URI_connects_to_its_export()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(exportName: "a b");
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClient.ConnectAsync(server.Endpoint.FormatUri("a b"), null, Token))
        {
            Assert.Equal("a b", client.Export.Name);
        }

        server.Finish();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_command_allocates_nothing_once_there_were_some(bool synchronous)
    {
        MemoryDisk disk = new(MiB);
        using FakeNbdServer server = new(disk.Serve);
        NbdClientOptions options = new() { AllowSynchronousContinuations = synchronous };
        await using (NbdClient client = await ConnectAsync(server, options))
        {
            byte[] buffer = new byte[4096];
            long start = Stopwatch.GetTimestamp();
            long allocated = 1;

            // Until the compiler has optimised what it found to be used a lot.
            while (allocated > 0)
            {
                Assert.True(Stopwatch.GetElapsedTime(start) < FakeNbdServer.TimeLimit, $"{allocated} bytes for 40 commands");
                allocated = 0;
                for (int i = 0; i < 20; i++)
                {
                    // Of this thread: the fake server allocates on its own.
                    long before = GC.GetAllocatedBytesForCurrentThread();
                    ValueTask read = client.ReadAsync(0, buffer, CancellationToken.None);
                    allocated += GC.GetAllocatedBytesForCurrentThread() - before;
                    await read;
                    before = GC.GetAllocatedBytesForCurrentThread();
                    ValueTask write = client.WriteAsync(0, buffer, cancellationToken: CancellationToken.None);
                    allocated += GC.GetAllocatedBytesForCurrentThread() - before;
                    await write;
                }
            }
        }

        server.Finish();
    }

    internal static Task<NbdClient> ConnectAsync(FakeNbdServer server, NbdClientOptions? options = null) =>
        NbdClient.ConnectAsync(server.Endpoint, "", options, Token);

    private static async Task RefuseAsync(Errno errno, Func<ValueTask> command, string message)
    {
        NbdException exception = await Assert.ThrowsAsync<NbdException>(async () => await command());
        Assert.Equal(errno, exception.Errno);
        Assert.Contains(message, exception.Message);
    }
}
