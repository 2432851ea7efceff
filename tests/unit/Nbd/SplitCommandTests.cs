using global::Nbd;
using global::Nbd.Protocol;

namespace UnitTests.Nbd;

/// <summary>What is more than one command can carry is sent in pieces.</summary>
public sealed class SplitCommandTests
{
    private const int MiB = 1024 * 1024;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_is_too_big_for_a_command_is_split()
    {
        const int Size = (5 * MiB) + 12345;
        MemoryDisk disk = new(Size);
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            byte[] written = TransmissionTests.Pattern(0, Size);
            await client.WriteAsync(0, written, cancellationToken: Token);
            byte[] read = new byte[Size];
            await client.ReadAsync(0, read, Token);
            Assert.True(written.AsSpan().SequenceEqual(read));
        }

        server.Finish();
        Assert.All(disk.Commands, command => Assert.True(command.Length <= MiB));
        Assert.Equal(6, disk.Commands.Count(command => command.Type == 1));
    }

    [Fact]
    public async Task A_small_payload_limit_of_the_server_is_kept()
    {
        MemoryDisk disk = new(100_000) { ExtraInfos = Frame.BlockSizeInfo(1, 4096, 8192) };
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            byte[] data = TransmissionTests.Pattern(0, 100_000);
            await client.WriteAsync(0, data, cancellationToken: Token);
            byte[] read = new byte[100_000];
            await client.ReadAsync(0, read, Token);
            Assert.Equal(data, read);
        }

        server.Finish();
        Assert.All(disk.Commands, command => Assert.True(command.Length <= 8192));
    }

    [Fact]
    public async Task Zeroing_a_big_range_falls_back_to_pieces_that_the_server_takes()
    {
        const long Size = 6L << 30;
        List<uint> lengths = [];
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(Size, MemoryDisk.AllFlags, extraInfos: Frame.BlockSizeInfo(4096, 4096, 64 * MiB));
            for (FakeRequest request = peer.ReceiveRequest(); request.Type != 2; request = peer.ReceiveRequest())
            {
                if (request.Type == 6)
                {
                    lengths.Add(request.Length);
                }

                peer.Send(Frame.SimpleReply(request.Length > 64 * MiB ? 22u : 0, request.Cookie));
            }
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            await client.WriteZeroesAsync(0, Size, NbdCommandFlags.NoHole, Token);
        }

        server.Finish();
        Assert.Equal(1u << 30, lengths[0]);
        Assert.Equal(Size, lengths.Skip(1).Sum(length => length));
    }

    [Fact]
    public async Task An_error_in_a_piece_is_reported_when_no_other_piece_uses_the_buffer()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(8 * MiB);
            FakeRequest[] requests = [.. Enumerable.Range(0, 4).Select(_ => peer.ReceiveRequest())];
            peer.Send(Frame.SimpleReply(5, requests[0].Cookie));
            foreach (FakeRequest request in requests[1..])
            {
                peer.Send(TransmissionTests.Data(request, 0, MiB, true));
            }

            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            byte[] buffer = new byte[8 * MiB];
            NbdException exception = await Assert.ThrowsAsync<NbdException>(
                async () => await client.ReadAsync(0, buffer, Token));

            Assert.Contains("READ of 1048576 bytes at offset 0 on", exception.Message);
            Assert.Equal(TransmissionTests.Pattern(3 * MiB, 100), buffer[(3 * MiB)..((3 * MiB) + 100)]);
        }

        server.Finish();
    }
}
