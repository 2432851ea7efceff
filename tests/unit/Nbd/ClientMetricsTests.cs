using System.Diagnostics.Metrics;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>Other tests of the process have clients too: only what is sure to come from this one is looked at.</summary>
public sealed class ClientMetricsTests
{
    // No other test reads ranges of this length.
    private const int Length = 77_773;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Nothing_is_in_flight_after_errors_cancellations_and_refusals()
    {
        using ManualResetEventSlim cancelled = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.HandshakeWithContexts(extended: false, ["base:allocation"]);
            FakeRequest read = peer.ReceiveRequest();
            FakeRequest status = peer.ReceiveRequest();
            Assert.True(cancelled.Wait(FakeNbdServer.TimeLimit));
            peer.Send(Frame.ErrorChunk(true, read.Cookie, 5) + Frame.ErrorChunk(true, status.Cookie, 5));
            peer.Send(Frame.ErrorChunk(true, peer.ReceiveRequest().Cookie, 5));
            peer.Send(Frame.ErrorChunk(true, peer.ReceiveRequest().Cookie, 5));
        });
        NbdClient client = await NbdClientTests.ConnectAsync(server, new() { MetaContexts = ["base:allocation"] });
        Assert.Equal(0, client.CommandsInFlight);
        using CancellationTokenSource cancellation = new();
        Task read = client.ReadAsync(0, new byte[512], cancellation.Token).AsTask();
        Task status = ExtentsAsync(cancellation.Token);
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => read);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => status);
        // On the wire they still are.
        Assert.Equal(2, client.CommandsInFlight);
        cancelled.Set();
        await Assert.ThrowsAsync<NbdException>(async () => await client.ReadAsync(0, new byte[512], Token));
        await Assert.ThrowsAsync<NbdException>(() => ExtentsAsync(Token));
        AssertNone();

        // The server has left: commands are refused.
        await Assert.ThrowsAsync<NbdException>(async () => await client.ReadAsync(0, new byte[512], Token));
        await Assert.ThrowsAsync<NbdException>(() => ExtentsAsync(Token));
        await Assert.ThrowsAsync<NbdException>(async () => await client.FlushAsync(Token));
        AssertNone();
        server.Finish();
        // Its FLUSH fails.
        await Assert.ThrowsAsync<NbdException>(async () => await client.DisposeAsync());
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await client.ReadAsync(0, new byte[512], Token));
        AssertNone();

        async Task ExtentsAsync(CancellationToken token) =>
            _ = await client.GetExtentsAsync(0, 512, cancellationToken: token).FirstAsync(token);

        // A command's caller may go on before it is counted as ended.
        void AssertNone() => Assert.True(
            SpinWait.SpinUntil(() => client.CommandsInFlight == 0, FakeNbdServer.TimeLimit),
            $"{client.CommandsInFlight} in flight");
    }

    [Fact]
    public async Task Commands_bytes_errors_and_times_are_counted_by_command()
    {
        List<(string Name, double Value, string Tags)> told = [];
        using MeterListener listener = new();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Name == "NbdClient")
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Keep(instrument, value, tags));
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Keep(instrument, value, tags));
        listener.Start();
        using ManualResetEventSlim observed = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest read = peer.ReceiveRequest();
            Assert.True(observed.Wait(FakeNbdServer.TimeLimit));
            peer.Send(TransmissionTests.Data(read, 0, read.Length, true));
            peer.Send(Frame.SimpleReply(28, peer.ReceiveRequest().Cookie));
            FakeRequest flush = peer.ReceiveRequest();
            Assert.Equal(3, flush.Type);
            peer.Send(Frame.SimpleReply(0, flush.Cookie));
            peer.ExpectDisconnect();
        });
        await using (NbdClient client = await NbdClientTests.ConnectAsync(server))
        {
            Task read = client.ReadAsync(0, new byte[Length], Token).AsTask();
            listener.RecordObservableInstruments();
            observed.Set();
            await read;
            await Assert.ThrowsAsync<NbdException>(
                async () => await client.WriteAsync(0, new byte[Length], cancellationToken: Token));
        }

        server.Finish();
        lock (told)
        {
            Assert.Contains(("nbd.client.commands", 1, "nbd.command=READ"), told);
            Assert.Contains(("nbd.client.bytes", Length, "nbd.command=READ"), told);
            Assert.DoesNotContain(("nbd.client.bytes", Length, "nbd.command=WRITE"), told);
            Assert.Contains(("nbd.client.errors", 1, $"nbd.command=WRITE,error.type={Errno.ENOSPC}"), told);
            Assert.Contains(told, t => t is { Name: "nbd.client.command.duration", Tags: "nbd.command=READ", Value: > 0 });
            Assert.Contains(told, t => t is { Name: "nbd.client.commands.in_flight", Value: >= 1 });
        }

        void Keep(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            string text = string.Join(',', tags.ToArray().Select(tag => $"{tag.Key}={tag.Value}"));
            lock (told)
            {
                told.Add((instrument.Name, value, text));
            }
        }
    }
}
