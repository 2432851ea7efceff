using Linux;
using Nbd;
using Nbd.Protocol;

namespace ClientBench;

/// <summary>Each completion submits the next command of its place in the queue.</summary>
internal sealed unsafe class CompletionLoad(NbdConnectionPool pool, Workload workload) : Load
{
    private readonly CountdownEvent _running = new(workload.Depth);
    private readonly NativeBuffer _payload = new(workload.BlockBytes);

    internal override int Connections => pool.ConnectionCount;

    internal static CompletionLoad Start(Workload workload)
    {
        NbdUri uri = NbdUri.Parse(workload.Uri);
        NbdConnectionPool pool = NbdConnectionPool.Connect(
            uri.Endpoint,
            uri.ExportName,
            new NbdClientOptions { Tls = uri.Tls, Connections = workload.Connections },
            CancellationToken.None);
        CompletionLoad load = new(pool, workload);
        Command[] commands = [.. Enumerable.Range(0, workload.Depth).Select(_ =>
            new Command(load, load.NewPlace(pool.Export.SizeBytes / workload.BlockBytes)))];
        foreach (Command command in commands)
        {
            command.Submit();
        }

        return load;
    }

    public override ValueTask DisposeAsync()
    {
        BeginStop();
        _running.Wait();
        _ = pool.Close(TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(10));
        pool.Dispose();
        _payload.Dispose();
        _running.Dispose();
        return ValueTask.CompletedTask;
    }

    private sealed class Command(CompletionLoad load, Place place) : NbdCompletion
    {
        private readonly NbdConnectionPool _pool = load.Pool;
        private readonly uint _length = (uint)load.Workload.BlockBytes;

        internal void Submit()
        {
            ulong offset = (ulong)place.NextBlock() * _length;
            Errno error = load.Workload.IsWrite
                ? _pool.Write(offset, load._payload.Start, _length, NbdCommandFlags.None, this)
                : _pool.Read(offset, _length, NbdCommandFlags.None, this);
            if (error != Errno.None)
            {
                throw new NbdException($"the command was not accepted: {error}", error);
            }
        }

        protected override void OnCompleted(Errno outcome, byte* data)
        {
            if (outcome != Errno.None)
            {
                throw new NbdException($"the command failed: {outcome}", outcome);
            }

            Volatile.Write(ref place.Operations, place.Operations + 1);
            if (load.IsStopping)
            {
                load._running.Signal();
            }
            else
            {
                Submit();
            }
        }
    }

    private NbdConnectionPool Pool => pool;

    private Workload Workload => workload;
}
