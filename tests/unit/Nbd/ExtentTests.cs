using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary><see cref="NbdClient.GetExtentsAsync"/>.</summary>
public sealed class ExtentTests
{
    private const string Allocation = "base:allocation";
    private const long GiB = 1L << 30;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Short_answers_are_continued_neighbours_merged_and_long_ones_cut(bool extended)
    {
        Queue<(ulong Length, ulong Flags)[]> answers = new(
        [
            [(4096, 0)], [(512, 0), (512, 0)], [(1024, 3), (512, 3), (512, 1)], [(512, 1)],
            [(8192, 0), (1 << 20, 3)],
        ]);
        List<FakeRequest> requests = [];
        (IReadOnlyList<NbdExtent> extents, _) = await GetAsync(extended, 1 << 20, 1024, 20000, request =>
        {
            requests.Add(request);
            return Frame.Status(request, true, 1, answers.Dequeue());
        });

        Assert.Equal(
            [new(1024, 5120, 0), new(6144, 1536, 3), new(7680, 1024, 1), new(8704, 8192, 0), new(16896, 4128, 3)],
            extents);
        Assert.Equal(
            [(1024, 20000), (5120, 15904), (6144, 14880), (8192, 12832), (8704, 12320)],
            requests.Select(r => ((int)r.Offset, (int)r.LongLength)));
    }

    [Fact]
    public async Task An_extent_may_reach_to_the_end_of_the_number_range()
    {
        foreach (ulong rest in new[] { 1ul << 62, 1ul << 63, ulong.MaxValue - 512 })
        {
            (IReadOnlyList<NbdExtent> extents, _) = await GetAsync(
                extended: true, 1 << 20, 1024, 20000, request => Frame.Status(request, true, 1, (512, 3), (rest, 0)));

            Assert.Equal([new(1024, 512, 3), new(1536, 19488, 0)], extents);
        }
    }

    [Fact]
    public async Task Long_ranges_are_split_only_where_the_header_is_small()
    {
        const ulong Size = 20ul << 30;
        List<FakeRequest> requests = [];
        string Answer(FakeRequest request)
        {
            requests.Add(request);
            return Frame.Status(request, true, 1, (request.LongLength, 3));
        }

        NbdExtent all = new(0, (long)Size, 3);
        Assert.Equal([all], (await GetAsync(true, Size, 0, (long)Size, Answer)).Extents);
        Assert.Equal(Size, Assert.Single(requests).LongLength);

        requests.Clear();
        string minimum512 = Frame.BlockSizeInfo(512, 4096, 1 << 25);
        Assert.Equal([all], (await GetAsync(false, Size, 0, (long)Size, Answer, minimum512)).Extents);
        Assert.Equal(10, requests.Count);
        Assert.All(requests, request => Assert.Equal(1u << 31, request.Length));
    }

    [Fact]
    public async Task A_server_that_refuses_long_ranges_is_asked_for_shorter_ones()
    {
        List<FakeRequest> requests = [];
        (IReadOnlyList<NbdExtent> extents, _) = await GetAsync(
            false,
            (ulong)GiB,
            0,
            GiB,
            request =>
            {
                requests.Add(request);
                return request.Length > 1 << 25
                    ? Frame.ErrorChunk(true, request.Cookie, requests.Count == 1 ? 75u : 22u)
                    : Frame.Status(request, true, 1, (request.Length, 0));
            });

        Assert.Equal([new NbdExtent(0, GiB, 0)], extents);
        Assert.Equal(1 + 32, requests.Count);
    }

    [Fact]
    public async Task Answers_that_end_within_a_block_are_continued_at_its_start()
    {
        Queue<(ulong Length, ulong Flags)[]> answers = new([[(4096, 3), (100, 1)], [(4096, 0)]]);
        List<FakeRequest> requests = [];
        (IReadOnlyList<NbdExtent> extents, _) = await GetAsync(
            false,
            1 << 20,
            0,
            8192,
            request =>
            {
                requests.Add(request);
                return Frame.Status(request, true, 1, answers.Dequeue());
            },
            Frame.BlockSizeInfo(4096, 4096, 1 << 25));

        Assert.Equal([new(0, 4096, 3), new(4096, 4096, 0)], extents);
        Assert.Equal([0ul, 4096ul], requests.Select(r => r.Offset));
    }

    [Fact]
    public async Task An_answer_of_less_than_a_block_is_an_error_and_no_endless_loop()
    {
        NbdException exception = (await GetAsync(
            false,
            1 << 20,
            0,
            8192,
            request => Frame.Status(request, true, 1, (100, 1)),
            Frame.BlockSizeInfo(4096, 4096, 1 << 25))).Exception!;

        Assert.Equal(Errno.EPROTO, exception.Errno);
        Assert.Contains("less than a block of 4096 bytes", exception.Message);
    }

    [Fact]
    public async Task Errors_say_what_was_asked()
    {
        NbdException exception = (await GetAsync(
            true, 1 << 20, 0, 8192, r => Frame.AnyChunk(r, true, 0x8001, Frame.U32(5) + Frame.U16(0)))).Exception!;

        Assert.StartsWith("BLOCK_STATUS of 8192 bytes at offset 0 on nbd+unix:", exception.Message);
        Assert.Equal(Errno.EIO, exception.Errno);
    }

    [Fact]
    public async Task The_context_must_be_there_and_the_range_within_the_export()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(true, [Allocation]);
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await ConnectAsync(server))
        {
            NbdException exception =
                Assert.Throws<NbdException>(() => client.GetExtentsAsync(0, 1, "qemu:dirty-bitmap:x\u0007", Token));
            Assert.Contains("no meta context 'qemu:dirty-bitmap:x?'", exception.Message);
            Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
            Assert.Equal(Errno.EINVAL, Assert.Throws<NbdException>(
                () => client.GetExtentsAsync(1, 1 << 20, cancellationToken: Token)).Errno);
            Assert.Throws<ArgumentOutOfRangeException>(
                () => client.GetExtentsAsync(-1, 1, cancellationToken: Token));
            Assert.Empty(await ListAsync(client.GetExtentsAsync(1 << 20, 0, cancellationToken: Token)));
        }

        server.Finish();
    }

    [Fact]
    public async Task A_cancelled_enumeration_ends_at_once_and_the_client_waits_for_the_late_answer()
    {
        using CancellationTokenSource cancellation = new();
        using ManualResetEventSlim cancelled = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(true, [Allocation]);
            FakeRequest request = peer.ReceiveRequest();
            cancellation.Cancel();
            Assert.True(cancelled.Wait(FakeNbdServer.TimeLimit));
            peer.Send(Frame.Status(request, true, 1, (512, 0)));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await ConnectAsync(server))
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(
                async () => await ListAsync(client.GetExtentsAsync(0, 512, cancellationToken: cancellation.Token)));
            cancelled.Set();
        }

        server.Finish();
    }

    private static async Task<(IReadOnlyList<NbdExtent> Extents, NbdException? Exception)> GetAsync(
        bool extended,
        ulong size,
        long offset,
        long length,
        Func<FakeRequest, string> answer,
        string extraInfos = "")
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended, [Allocation], size, extraInfos: extraInfos);
            while (peer.ReceiveRequest() is { Type: 7 } request)
            {
                peer.Send(answer(request));
            }

            peer.ExpectEnd();
        });
        IReadOnlyList<NbdExtent> extents = [];
        NbdException? failure = null;
        await using (NbdClient client = await ConnectAsync(server))
        {
            try
            {
                extents = await ListAsync(client.GetExtentsAsync(offset, length, cancellationToken: Token));
            }
            catch (NbdException e)
            {
                failure = e;
            }
        }

        server.Finish();
        return (extents, failure);
    }

    private static Task<NbdClient> ConnectAsync(FakeNbdServer server) => NbdClient.ConnectAsync(
        server.Endpoint, "", new NbdClientOptions { Connections = 1, MetaContexts = [Allocation] }, Token);

    private static async Task<List<NbdExtent>> ListAsync(IAsyncEnumerable<NbdExtent> extents)
    {
        List<NbdExtent> list = [];
        await foreach (NbdExtent extent in extents)
        {
            list.Add(extent);
        }

        return list;
    }
}
