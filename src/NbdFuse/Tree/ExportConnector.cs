using Linux;
using Nbd;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>Connects to the exports of one server when they are opened, and leaves them. Thread-safe.</summary>
/// <param name="invocation">How to connect, and how files look.</param>
/// <param name="server">Where the exports are.</param>
/// <param name="pools">Takes the connections over.</param>
/// <param name="blocks">Memory for reading ahead, in all; null for none.</param>
/// <param name="warn">Told of exports that cannot be connected to, and of what may be lost.</param>
/// <param name="tell">Told what users may like to know.</param>
internal sealed class ExportConnector(
    Invocation invocation,
    ExportServer server,
    ExportPools pools,
    BlockMemory? blocks,
    Action<string> warn,
    Action<string> tell)
{
    private static readonly TimeSpan s_flushTime = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan s_leaveTime = TimeSpan.FromSeconds(30);

    /// <summary>Connects, on a thread of its own because that blocks.</summary>
    /// <param name="exportName">Name of the export.</param>
    /// <param name="leaving">Ends when the same export has been left: what was written is flushed then.</param>
    /// <exception cref="NbdException">It cannot be connected to.</exception>
    internal async Task<ConnectedExport> Connect(string exportName, Task leaving)
    {
        await leaving.ConfigureAwait(false);
        return await Task.Factory.StartNew(
            () => Connect(exportName), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)
            .ConfigureAwait(false);
    }

    /// <summary>Flushes and disconnects. Never fails.</summary>
    internal async Task Leave(Task<ConnectedExport> connection)
    {
        try
        {
            ConnectedExport connected = await connection.ConfigureAwait(false);
            Errno flushed = await Task.Factory.StartNew(
                () => pools.Close(connected.Pool, s_flushTime, s_leaveTime),
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default).ConfigureAwait(false);
            if (flushed != Errno.None)
            {
                warn(
                    $"{server.UriOf(connected.Pool.Export.Name)}: flush when it was closed: "
                    + $"{LinuxException.Describe(flushed)}; what was written last may not be on stable storage");
            }
        }
        catch (Exception exception) when (exception is NbdException or LinuxException)
        {
            // It was never connected to, and that was told.
        }
    }

    /// <summary>Whether nothing may be written to an export; null: nothing is known of it.</summary>
    internal bool IsReadOnly(NbdExport? export) =>
        invocation.ReadOnly || invocation.Fuse.ReadOnly || export?.IsReadOnly == true;

    /// <summary>The attributes that an export's file starts with.</summary>
    internal FileAttributesInMemory AttributesOf(NbdListedExport listed)
    {
        ExportFileOptions options = ExportFileOptions.From(invocation, fileName: null, IsReadOnly(listed.Export), false);
        return new FileAttributesInMemory((uint)LibC.S_IFREG | options.FileMode, options.UserId, options.GroupId);
    }

    private ConnectedExport Connect(string exportName)
    {
        NbdConnectionPool? pool = null;
        try
        {
            pool = server.Connect(exportName);
            ExportFileOptions options = ExportFileOptions.From(
                invocation, fileName: null, IsReadOnly(pool.Export), keepCache: false);
            ExportFile file = new(pool, options, warn, tell, blocks);
            LossReport losses = new(warn, TimeProvider.System);
            pool.ConnectionLost = reason =>
            {
                file.ForgetAll();
                losses.Tell(reason);
            };
            pool.ServerError = new ServerErrorReport(server.UriOf(exportName), warn, tell, TimeProvider.System).Tell;
            return pools.TryAdd(pool) ? new ConnectedExport(file, pool) : throw new NbdException("the mount is ending", Errno.ENODEV);
        }
        catch (Exception exception) when (exception is NbdException or LinuxException)
        {
            pool?.Dispose();
            warn($"{server.UriOf(exportName)}: {exception.Message}");
            throw;
        }
    }
}
