using System.IO.Pipes;
using System.Net;
using global::Nbd;
using Linux;
using UnitTests.Nbd;

namespace UnitTests.Serving;

/// <summary>How a server begins, runs requests side by side, and ends.</summary>
public sealed class ServerLifecycleTests
{
    private const int Size = 1 << 20;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Many_requests_over_many_connections_return_what_was_written(bool isAsync)
    {
        const int Tasks = 64;
        const int Block = Size / Tasks;
        TestDisk disk = new(Size)
        {
            Offers = NbdBackendCapabilities.MultiConn | NbdBackendCapabilities.Extents,
            Before = async _ =>
            {
                if (isAsync)
                {
                    await Task.Yield();
                }
            },
        };
        await using TestServer server = new(disk);
        await using (NbdClient client = await NbdClient.ConnectAsync(
            server.Endpoint, "", new NbdClientOptions { Connections = 3 }, Token))
        {
            await Task.WhenAll(Enumerable.Range(0, Tasks).Select(async task =>
            {
                byte[] read = new byte[Block];
                for (int round = 0; round < 30; round++)
                {
                    int length = 1 + ((round * 977) % Block);
                    byte[] written = TransmissionTests.Pattern((ulong)(task + (round * 1000)), (uint)length);
                    await client.WriteAsync(task * Block, written, cancellationToken: Token);
                    await client.ReadAsync(task * Block, read.AsMemory(0, length), Token);
                    Assert.Equal(written, read[..length]);
                }
            }));
        }

        await TestServer.Until(() => server.Server.ConnectionCount == 0, "the end of the client");
        Assert.Equal(3, disk.Disposed);
        Assert.Empty(server.Log);
    }

    [Fact]
    public async Task A_backend_that_is_not_parallel_is_called_one_at_a_time()
    {
        TestDisk disk = new(Size) { Parallel = false, Before = async _ => await Task.Yield() };
        await using TestServer server = new(disk);
        await using NbdClient client = await NbdClient.ConnectAsync(
            server.Endpoint, "", new NbdClientOptions { Connections = 1 }, Token);
        await Task.WhenAll(Enumerable.Range(0, 200).Select(
            i => client.WriteAsync(i, new byte[1], cancellationToken: Token).AsTask()));
        Assert.Equal(1, disk.MostRunning);
    }

    [Fact]
    public async Task No_more_requests_run_at_a_time_than_allowed()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TestDisk disk = new(Size) { Before = _ => go.Task };
        await using TestServer server = new(disk, options => options with { MaximumRequestsInFlight = 3 });
        using FakePeer client = server.Enter(Style.Simple);
        client.Send(string.Concat(Enumerable.Range(0, 10).Select(i => TestServer.Request(3, (ulong)i, 0, 0))));
        await TestServer.Until(() => disk.Calls.Count == 3, "the first three");
        go.SetResult();
        _ = client.Receive(10 * 16);
        Assert.Equal(3, disk.MostRunning);
    }

    [Fact]
    public async Task Replies_come_in_the_order_in_which_requests_end()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TestDisk disk = new(Size) { Before = call => call == "flush" ? go.Task : Task.CompletedTask };
        await using TestServer server = new(disk);
        using FakePeer client = server.Enter(Style.Simple);
        client.Send(TestServer.Request(3, 1, 0, 0) + TestServer.Request(4, 2, 0, 1));
        client.Expect(Frame.SimpleReply(0, 2));
        go.SetResult();
        client.Expect(Frame.SimpleReply(0, 1));
    }

    [Fact]
    public async Task Stopping_finishes_what_runs_refuses_the_rest_and_flushes()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TestDisk disk = new(Size)
        {
            Before = call => call.StartsWith("write", StringComparison.Ordinal) ? go.Task : Task.CompletedTask,
        };
        await using TestServer server = new(disk);
        using FakePeer client = server.Enter(Style.Simple);
        client.Send(TestServer.Request(1, 1, 0, 1, 0, "07"));
        await TestServer.Until(() => disk.Calls.Count == 1, "the write");
        Task stopped = server.Server.StopAsync(TimeSpan.FromMinutes(1));
        await TestServer.Until(() => !File.Exists(server.SocketPath), "the end of listening");
        go.SetResult();
        client.Expect(Frame.SimpleReply(0, 1));
        client.ExpectEnd();
        await stopped;
        Assert.Equal(["write 0 1", "flush"], disk.Calls);
        Assert.Equal(1, disk.Disposed);
        Assert.Equal(7, disk.Content[0]);
    }

    [Fact]
    public async Task A_request_that_comes_while_the_server_stops_gets_ESHUTDOWN()
    {
        TaskCompletionSource go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TestDisk disk = new(Size) { Parallel = false, Before = call => call == "flush" ? Task.CompletedTask : go.Task };
        await using TestServer server = new(disk);
        using FakePeer client = server.Enter(Style.Simple);
        client.Send(TestServer.Request(4, 1, 0, 1) + TestServer.Request(4, 2, 0, 1));
        await TestServer.Until(() => disk.Calls.Count == 1, "the first");
        using FakePeer idle = server.Enter();
        Task stopped = server.Server.StopAsync(TimeSpan.FromMinutes(1));
        // Connections are told in the order in which they came.
        idle.ExpectEnd();
        go.SetResult();
        client.Expect(Frame.SimpleReply(0, 1));
        client.Expect(Frame.SimpleReply(108, 2));
        client.ExpectEnd();
        await stopped;
    }

    [Fact]
    public async Task Stopping_cuts_off_what_does_not_end_in_time()
    {
        TestDisk disk = new(Size) { Before = _ => new TaskCompletionSource().Task };
        TestServer server = new(disk);
        using FakePeer client = server.Enter(Style.Simple);
        client.Send(TestServer.Request(4, 1, 0, 1));
        await TestServer.Until(() => disk.Calls.Count == 1, "the request");
        await server.Server.StopAsync(TimeSpan.Zero);
        client.ExpectEnd();
        await server.DisposeAsync();
    }

    [Fact]
    public async Task An_idle_client_sees_the_end_when_the_server_stops()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        using FakePeer idle = server.Enter();
        using FakePeer shy = server.Greet();
        await server.Server.StopAsync(TimeSpan.FromMinutes(1));
        idle.ExpectEnd();
        shy.ExpectEnd();
        Assert.Equal(0, server.Server.ConnectionCount);
        Assert.Empty(server.Log);
    }

    [Fact]
    public async Task The_log_does_not_drown_in_lines()
    {
        await using TestServer server = new(new TestDisk(Size), options => options with { MaximumConnections = 1 });
        using FakePeer first = server.Enter();
        for (int i = 0; i < 1000; i++)
        {
            using FakePeer turnedAway = server.Connect();
            turnedAway.Drain();
        }

        // The thousand may have taken some seconds.
        Assert.InRange(server.Log.Count, 50, 999);
    }

    [Fact]
    public async Task Who_counts_clients_is_told_when_one_left()
    {
        List<int> left = [];
        await using TestServer server = new(new TestDisk(Size), options => options with
        {
            ClientLeft = count =>
            {
                lock (left)
                {
                    left.Add(count);
                }
            },
        });
        FakePeer first = server.Enter();
        using (FakePeer second = server.Enter())
        {
            Assert.Equal(2, server.Server.ConnectionCount);
        }

        await TestServer.Until(() => left.Count == 1, "the end of the second");
        first.Dispose();
        await TestServer.Until(() => left.Count == 2, "the end of the first");
        Assert.Equal([1, 0], left);
    }

    [Fact]
    public async Task One_client_is_served_on_two_pipes()
    {
        TestDisk disk = new(Size);
        await using TestServer server = new(disk);
        using AnonymousPipeServerStream toServer = new(PipeDirection.Out);
        using AnonymousPipeServerStream fromServer = new(PipeDirection.In);
        Task served = server.Server.ServeAsync(
            Take(toServer.ClientSafePipeHandle), Take(fromServer.ClientSafePipeHandle), Token);
        await toServer.WriteAsync(
            Convert.FromHexString(
                TestServer.HelloFlags + Frame.GoFor("") + TestServer.Request(0, 9, 0, 4) + TestServer.Request(2, 0, 0, 0)),
            Token);
        byte[] received = new byte[18 + 32 + 34 + 20 + 16 + 4];
        await fromServer.ReadExactlyAsync(received, Token);
        Assert.EndsWith(
            Frame.SimpleReply(0, 9) + "00000000", Convert.ToHexStringLower(received), StringComparison.Ordinal);
        await served;
    }

    [Fact]
    public async Task An_idle_client_on_pipes_does_not_hinder_stopping()
    {
        await using TestServer server = new(new TestDisk(Size));
        using AnonymousPipeServerStream toServer = new(PipeDirection.Out);
        using AnonymousPipeServerStream fromServer = new(PipeDirection.In);
        Task served = server.Server.ServeAsync(
            Take(toServer.ClientSafePipeHandle), Take(fromServer.ClientSafePipeHandle), Token);
        await server.Server.StopAsync(TimeSpan.FromMinutes(1));
        await served;
    }

    [Fact]
    public async Task Cancelling_ends_the_client()
    {
        TaskCompletionSource<CancellationToken> seen = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using TestServer server = new(new TestDisk(Size), options => options with
        {
            OpenExport = async (_, cancellationToken) =>
            {
                seen.TrySetResult(cancellationToken);
                await Task.Delay(Timeout.Infinite, cancellationToken);
                return null;
            },
        });
        using AnonymousPipeServerStream toServer = new(PipeDirection.Out);
        using AnonymousPipeServerStream fromServer = new(PipeDirection.In);
        using CancellationTokenSource cancellation = new();
        Task served = server.Server.ServeAsync(
            Take(toServer.ClientSafePipeHandle), Take(fromServer.ClientSafePipeHandle), cancellation.Token);
        await toServer.WriteAsync(Convert.FromHexString(TestServer.HelloFlags + Frame.GoFor("")), Token);
        _ = await seen.Task;
        await cancellation.CancelAsync();
        await served;
    }

    [Fact]
    public async Task A_TCP_port_that_the_system_chose_is_told()
    {
        await using NbdServer server = new(Options(new TestDisk(Size)));
        int port = server.ListenTcp(IPAddress.Loopback, 0);
        server.Start();
        await using (NbdClient client = await NbdClient.ConnectAsync(
            new NbdEndpoint.Tcp("127.0.0.1", port), "", null, Token))
        {
            Assert.Equal(Size, client.Export.SizeBytes);
        }

        await using NbdServer second = new(Options(new TestDisk(Size)));
        LinuxException exception = Assert.Throws<LinuxException>(() => second.ListenTcp(IPAddress.Loopback, port));
        Assert.Contains($"listen on TCP 127.0.0.1:{port}", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_path_that_exists_is_left_alone()
    {
        await using TestServer first = new(new TestDisk(Size));
        await using (NbdServer second = new(Options(new TestDisk(Size))))
        {
            Assert.Throws<LinuxException>(() => second.ListenUnix(first.SocketPath));
            Assert.Throws<LinuxException>(() => second.ListenUnix(first.SocketPath + new string('x', 100)));
        }

        Assert.True(File.Exists(first.SocketPath));
    }

    [Fact]
    public void Limits_that_make_no_sense_are_refused()
    {
        NbdServerOptions options = Options(new TestDisk(Size));
        foreach (NbdServerOptions wrong in (NbdServerOptions[])
            [
                options with { MaximumConnections = 0 },
                options with { MaximumRequestsInFlight = 0 },
                options with { RequestTimeout = TimeSpan.Zero },
                options with { MaximumRequestsInFlight = 1025 },
                options with { MaximumPayloadBytes = 1000 },
                options with { MaximumPayloadBytes = 100_000 },
                options with { MaximumPayloadBytes = 128 << 20 },
                options with { MaximumMemoryBytes = 1 << 20 },
            ])
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => new NbdServer(wrong));
        }
    }

    private static NbdServerOptions Options(TestDisk disk) =>
        new() { OpenExport = (_, _) => ValueTask.FromResult<NbdBackend?>(disk) };

    private static SafeFd Take(Microsoft.Win32.SafeHandles.SafePipeHandle handle)
    {
        SafeFd fd = new((int)handle.DangerousGetHandle());
        handle.SetHandleAsInvalid();
        return fd;
    }
}
