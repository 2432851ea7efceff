using Nbd;

namespace ClientBench;

/// <summary>One loop of awaits for each place in the queue.</summary>
internal sealed class AsyncLoad(NbdClient client, Workload workload) : Load
{
    private Task _loops = Task.CompletedTask;

    internal override int Connections => client.ConnectionCount;

    internal static async Task<AsyncLoad> StartAsync(Workload workload, bool isSynchronous)
    {
        NbdClientOptions options = new()
        {
            Connections = workload.Connections,
            AllowSynchronousContinuations = isSynchronous,
        };
        AsyncLoad load = new(await NbdClient.ConnectAsync(workload.Uri, options), workload);
        Place[] places = [.. Enumerable.Range(0, workload.Depth).Select(_ =>
            load.NewPlace(load.Client.Export.SizeBytes / workload.BlockBytes))];
        load._loops = Task.WhenAll(places.Select(place => Task.Run(() => load.LoopAsync(place))));
        return load;
    }

    public override async ValueTask DisposeAsync()
    {
        BeginStop();
        await _loops;
        await client.DisposeAsync();
    }

    private NbdClient Client => client;

    private async Task LoopAsync(Place place)
    {
        byte[] buffer = GC.AllocateArray<byte>(workload.BlockBytes, pinned: true);
        while (!IsStopping)
        {
            long offset = place.NextBlock() * workload.BlockBytes;
            await (workload.IsWrite ? client.WriteAsync(offset, buffer) : client.ReadAsync(offset, buffer));
            Volatile.Write(ref place.Operations, place.Operations + 1);
        }
    }
}
