using System.Diagnostics.Metrics;
using global::Nbd;

namespace UnitTests.Nbd;

/// <summary>Runs alone: the gauge is about all clients of the process.</summary>
[Collection(nameof(ClientGaugeTests))]
[CollectionDefinition(nameof(ClientGaugeTests), DisableParallelization = true)]
public sealed class ClientGaugeTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_client_that_is_disposed_is_not_counted_any_more()
    {
        using ManualResetEventSlim looked = new();
        using FakeNbdServer server = new(peer =>
        {
            peer.Handshake();
            FakeRequest read = peer.ReceiveRequest();
            Assert.True(looked.Wait(FakeNbdServer.TimeLimit));
            peer.Send(TransmissionTests.Data(read, 0, read.Length, true));
            peer.ExpectDisconnect();
        });
        long others = InFlight();
        NbdClient client = await NbdClientTests.ConnectAsync(server);
        Assert.Equal(others, InFlight());
        Task read = client.ReadAsync(0, new byte[512], Token).AsTask();
        Assert.Equal(others + 1, InFlight());

        Task disposed = client.DisposeAsync().AsTask();

        Assert.Equal(others, InFlight());
        looked.Set();
        await read;
        await disposed;
        server.Finish();
        Assert.Equal(others, InFlight());
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await client.ReadAsync(0, new byte[512], Token));
        Assert.Equal(others, InFlight());
    }

    private static long InFlight()
    {
        long sum = 0;
        using MeterListener listener = new();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Name == "NbdClient" && instrument.Name == "nbd.client.commands.in_flight")
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((_, value, _, _) => sum += value);
        listener.Start();
        listener.RecordObservableInstruments();
        return sum;
    }
}
