using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography.X509Certificates;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Commands and replies through TLS, and its ends.</summary>
public sealed class TlsTransmissionTests : IDisposable
{
    private const int MiB = 1024 * 1024;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("nbd-tls-");
    private readonly TestCertificates _certificates;
    private readonly X509Certificate2 _certificate;

    public TlsTransmissionTests()
    {
        _certificates = new TestCertificates(_folder.FullName);
        _certificate = _certificates.Server("any.example");
    }

    public void Dispose()
    {
        _certificate.Dispose();
        _certificates.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public async Task Data_of_all_sizes_pass_both_ways_at_the_same_time()
    {
        const int Streams = 6;
        MemoryDisk disk = new(Streams * MiB) { Certificate = _certificate };
        using FakeNbdServer server = new(disk.Serve);
        await using (NbdClient client = await NbdClient.ConnectAsync(server.Endpoint, "", Options(), Token))
        {
            await Task.WhenAll(Enumerable.Range(0, Streams).Select(stream => Task.Run(() => Check(client, stream), Token)));
        }

        server.Finish();

        static async Task Check(NbdClient client, int stream)
        {
            Random random = new(stream);
            byte[] written = new byte[MiB];
            byte[] read = new byte[MiB];
            // Around the size of a record with and without the header of a command, and any others.
            foreach (int size in (int[])[1, 16355, 16356, 16357, 16384, 16385, 32768, MiB, .. RandomSizes(random)])
            {
                long offset = ((long)stream * MiB) + random.Next(MiB - size + 1);
                random.NextBytes(written.AsSpan(0, size));
                await client.WriteAsync(offset, written.AsMemory(0, size), cancellationToken: Token);
                await client.ReadAsync(offset, read.AsMemory(0, size), Token);
                Assert.True(written.AsSpan(0, size).SequenceEqual(read.AsSpan(0, size)), $"{size} bytes differ");
            }
        }

        static IEnumerable<int> RandomSizes(Random random) =>
            Enumerable.Range(0, 30).Select(_ => random.Next(1, 70000));
    }

    [Fact]
    public unsafe void Replies_are_received_and_senders_are_not_held_up_while_the_server_does_not_read()
    {
        const int Writes = 16;
        using ManualResetEventSlim answered = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(size: MiB, certificate: _certificate);
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(TransmissionTests.Data(read, 0, 512, true));
            Assert.True(answered.Wait(FakeNbdServer.TimeLimit), "the READ was not completed");
            for (int i = 0; i < Writes; i++)
            {
                FakeRequest write = peer.ReceiveRequest();
                Assert.Equal(TransmissionTests.Pattern((ulong)i, MiB), write.Payload);
                peer.Send(Frame.SimpleReply(0, write.Cookie));
            }

            FakeRequest flush = peer.ReceiveRequest();
            Assert.Equal(3, flush.Type);
            peer.Send(Frame.SimpleReply(0, flush.Cookie));
            peer.ExpectDisconnect();
        });
        using (NbdConnectionPool pool = Connect(server))
        {
            RecordedCompletion read = TransmissionTests.Read(pool, 0, 512);
            RecordedCompletion[] writes = new RecordedCompletion[Writes];
            List<byte[]> payloads = [];
            TimeSpan longest = default;
            for (int i = 0; i < Writes; i++)
            {
                byte[] data = GC.AllocateArray<byte>(MiB, pinned: true);
                TransmissionTests.Pattern((ulong)i, MiB).CopyTo(data, 0);
                payloads.Add(data);
                writes[i] = new RecordedCompletion();
                long start = Stopwatch.GetTimestamp();
                Assert.Equal(Errno.None, pool.Write(0, Address(data), MiB, 0, writes[i]));
                TimeSpan elapsed = Stopwatch.GetElapsedTime(start);
                longest = elapsed > longest ? elapsed : longest;
            }

            TransmissionTests.AssertPattern(read, 0, 512);
            answered.Set();
            Assert.All(writes, write => Assert.Equal(Errno.None, write.Outcome));
            GC.KeepAlive(payloads);
            // 100 ms; the rest is for a machine that has other things to do.
            Assert.True(longest < TimeSpan.FromSeconds(5), $"a sender was held up for {longest}");
            pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit);
        }

        server.Finish();
    }

    [Theory]
    [InlineData(0, false, "the stream was cut off (no close_notify): the server died, or someone between ended it")]
    [InlineData(600, false, "the stream was cut off (no close_notify): the server died, or someone between ended it")]
    [InlineData(0, true, "the server closed the connection")]
    [InlineData(600, true, "the server closed the connection in the middle of a reply")]
    public void The_end_of_TLS_has_a_message_of_its_own_if_it_was_not_announced(int sent, bool announced, string message)
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(certificate: _certificate);
            FakeRequest read = peer.ReceiveRequest();
            peer.Send(TransmissionTests.Data(read, 0, 1000, true)[..(2 * sent)]);
            if (announced)
            {
                peer.EndTls();
            }
        });
        using NbdConnectionPool pool = Connect(server);
        using BlockingCollection<string> losses = [];
        pool.ConnectionLost = reason => losses.Add(reason.Message);

        RecordedCompletion read = TransmissionTests.Read(pool, 0, 1000);

        Assert.Equal(Errno.EIO, read.Outcome);
        Assert.True(losses.TryTake(out string? loss, FakeNbdServer.TimeLimit));
        Assert.EndsWith(message, loss, StringComparison.Ordinal);
    }

    [Fact]
    public void A_record_that_was_changed_on_its_way_never_makes_data()
    {
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(certificate: _certificate);
            FakeRequest read = peer.ReceiveRequest();
            // Of application data (23), as TLS 1.2 and later mark it.
            peer.SendPlain("1703030040" + Frame.Zeroes(64));
            // How the client says goodbye then is its own affair.
            _ = Record.Exception(peer.Drain);
        });
        using NbdConnectionPool pool = Connect(server);
        using BlockingCollection<string> losses = [];
        pool.ConnectionLost = reason => losses.Add(reason.Message);

        RecordedCompletion read = TransmissionTests.Read(pool, 0, 16);

        Assert.Equal(Errno.EIO, read.Outcome);
        Assert.True(losses.TryTake(out string? loss, FakeNbdServer.TimeLimit));
        Assert.Contains("TLS: decryption failed or bad record mac", loss, StringComparison.Ordinal);
        server.Finish();
    }

    [Fact]
    public unsafe void A_connection_to_a_server_that_hangs_is_cut_at_once()
    {
        using ManualResetEventSlim closed = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(certificate: _certificate);
            Assert.True(closed.Wait(FakeNbdServer.TimeLimit), "the client did not close");
        });
        byte[] data = GC.AllocateArray<byte>(MiB, pinned: true);
        RecordedCompletion[] writes = new RecordedCompletion[8];
        using (NbdConnectionPool pool = Connect(server))
        {
            for (int i = 0; i < writes.Length; i++)
            {
                writes[i] = new RecordedCompletion();
                Assert.Equal(Errno.None, pool.Write(0, Address(data), MiB, 0, writes[i]));
            }

            pool.Abort(new NbdException("enough", Errno.EIO));
            Assert.All(writes, write => Assert.Equal(Errno.EIO, write.Outcome));
        }

        GC.KeepAlive(data);
        closed.Set();
        server.Finish();
    }

    [Fact]
    public void A_command_costs_no_allocation()
    {
        const int Commands = 500;
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake(size: MiB, certificate: _certificate);
            for (FakeRequest request = peer.ReceiveRequest(); request.Type == 3; request = peer.ReceiveRequest())
            {
                peer.Send(Frame.SimpleReply(0, request.Cookie));
            }

            peer.Drain();
        });
        using NbdConnectionPool pool = Connect(server);
        using AllocationCounter counter = new();
        Run();

        Assert.InRange(Allocations.Fewest(GC.GetAllocatedBytesForCurrentThread, Run), 0, Commands);
        Assert.InRange(Allocations.Fewest(() => counter.ReceiverBytes, Run), 0, Commands);
        Assert.Equal(Errno.None, pool.Close(FakeNbdServer.TimeLimit, FakeNbdServer.TimeLimit));
        server.Finish();

        void Run()
        {
            for (int i = 0; i < Commands; i++)
            {
                Assert.True(pool.Flush(counter) == Errno.None);
                counter.Wait();
            }
        }
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static unsafe byte* Address(byte[] pinned) => (byte*)Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0);

    private NbdClientOptions Options() => new()
    {
        Connections = 1,
        Tls = new NbdTlsOptions { Policy = NbdTlsPolicy.Require, CertificateDirectory = _folder.FullName },
    };

    private NbdConnectionPool Connect(FakeNbdServer server) =>
        NbdConnectionPool.Connect(server.Endpoint, "", Options(), CancellationToken.None);

    /// <summary>Completes one command after the other; notes what the receive thread had allocated by then.</summary>
    private sealed class AllocationCounter : NbdCompletion, IDisposable
    {
        private readonly SemaphoreSlim _completed = new(0);
        private long _receiverBytes;

        internal long ReceiverBytes => Interlocked.Read(ref _receiverBytes);

        internal void Wait() => Assert.True(_completed.Wait(FakeNbdServer.TimeLimit));

        public void Dispose() => _completed.Dispose();

        protected internal override unsafe void OnCompleted(Errno outcome, byte* data)
        {
            Interlocked.Exchange(ref _receiverBytes, GC.GetAllocatedBytesForCurrentThread());
            _completed.Release();
        }
    }
}
