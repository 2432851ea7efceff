using global::Nbd;

namespace UnitTests.Nbd;

/// <summary>Callers that go on on the receive thread (<see cref="NbdClientOptions.AllowSynchronousContinuations"/>).</summary>
public sealed class SynchronousContinuationTests
{
    private static readonly NbdClientOptions s_options = new() { AllowSynchronousContinuations = true };

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_callers_submit_is_sent_once_all_replies_are_used()
    {
        const int Callers = 3;
        FakePeer? connected = null;
        List<int> unread = [];
        using ManualResetEventSlim waiting = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            connected = peer;
            AnswerOnce(peer, waiting, Callers);
            AnswerOnce(peer, waiting, Callers);
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server, s_options))
        {
            Task[] callers = [.. Enumerable.Range(0, Callers).Select(i => CallAsync(client, i))];
            waiting.Set();
            await Task.WhenAll(callers).WaitAsync(FakeNbdServer.TimeLimit, Token);
        }

        server.Finish();
        Assert.Equal([0, 0, 0], unread);

        async Task CallAsync(NbdClient client, int i)
        {
            await client.ReadAsync(i, new byte[1], CancellationToken.None).ConfigureAwait(false);
            Assert.NotNull(NbdConnection.OfThisThread);
            unread.Add(connected!.UnreadBytes);
            await client.ReadAsync(i, new byte[1], CancellationToken.None).ConfigureAwait(false);
        }
    }

    [Fact]
    public async Task Who_goes_on_can_dispose_the_client()
    {
        using ManualResetEventSlim waiting = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            AnswerOnce(peer, waiting, 1);
            AnswerOnce(peer, waiting, 1);
            peer.ExpectDisconnect();
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server, s_options);
        Task disposed = WriteAndDisposeAsync();
        waiting.Set();
        await disposed.WaitAsync(FakeNbdServer.TimeLimit, Token);
        server.Finish();

        async Task WriteAndDisposeAsync()
        {
            await using (client.ConfigureAwait(false))
            {
                await client.WriteAsync(0, new byte[1]).ConfigureAwait(false);
                Assert.NotNull(NbdConnection.OfThisThread);
            }
        }
    }

    [Fact]
    public async Task A_stream_refuses_to_wait_for_its_own_thread()
    {
        MemoryDisk disk = new(4096);
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server, s_options))
        {
            Stream stream = client.AsStream();
            await Task.Run(async () =>
            {
                byte[] buffer = new byte[1];
                while (NbdConnection.OfThisThread is null)
                {
                    // Else the answer was here before the await.
                    await client.ReadAsync(0, buffer, CancellationToken.None).ConfigureAwait(false);
                }

                Assert.Throws<InvalidOperationException>(() => stream.Read(buffer, 0, 1));
                Assert.Throws<InvalidOperationException>(() => stream.Write(buffer, 0, 1));
                Assert.Throws<InvalidOperationException>(stream.Flush);
                Assert.Throws<InvalidOperationException>(stream.Dispose);
                await Task.Yield();
                Assert.Equal(1, stream.Read(buffer, 0, 1));
                stream.Dispose();
            }, Token).WaitAsync(FakeNbdServer.TimeLimit, Token);
        }

        server.Finish();
    }

    [Fact]
    public async Task Many_callers_get_what_they_wrote()
    {
        const int Callers = 16;
        const int Commands = 100;
        const int Room = 300 << 10;
        MemoryDisk disk = new(Callers * Room);
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server, s_options))
        {
            await Task.WhenAll(Enumerable.Range(0, Callers).Select(i => Task.Run(() => CallAsync(client, i))))
                .WaitAsync(3 * FakeNbdServer.TimeLimit, Token);
        }

        server.Finish();

        static async Task CallAsync(NbdClient client, int caller)
        {
            Random random = new(caller);
            byte[] written = new byte[Room];
            byte[] read = new byte[Room];
            for (int i = 0; i < Commands; i++)
            {
                int length = random.Next(8) switch
                {
                    0 => random.Next(64 << 10, Room),
                    1 => random.Next(1, 40 << 10),
                    _ => random.Next(1, 4096),
                };
                long offset = ((long)caller * Room) + random.Next(Room - length + 1);
                random.NextBytes(written.AsSpan(0, length));
                await client.WriteAsync(offset, written.AsMemory(0, length)).ConfigureAwait(false);
                if (random.Next(4) == 0)
                {
                    await Task.Yield();
                }

                await client.ReadAsync(offset, read.AsMemory(0, length)).ConfigureAwait(false);
                Assert.True(written.AsSpan(0, length).SequenceEqual(read.AsSpan(0, length)));
            }
        }
    }

    /// <summary>Answers so many commands with one send, once their callers wait.</summary>
    private static void AnswerOnce(FakePeer peer, ManualResetEventSlim waiting, int commands)
    {
        FakeRequest[] requests = [.. Enumerable.Range(0, commands).Select(_ => peer.ReceiveRequest())];
        Assert.True(waiting.Wait(FakeNbdServer.TimeLimit));
        peer.Send(string.Concat(requests.Select(request => request.Type == 0
            ? TransmissionTests.Data(request, 0, request.Length, true)
            : Frame.SimpleReply(0, request.Cookie))));
    }
}
