using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using Linux;

namespace Nbd;

/// <summary>
/// The awaited commands of one connection, on their way from its receive thread to the thread pool: what one recv(2)
/// brought takes one hop together. Whoever goes on may block: before the first of several does, another work item is
/// queued for the others. While one is, what those who go on send may be gathered, because that will send it.
/// <para>
/// Who promised not to block (<see cref="NbdClientOptions.AllowSynchronousContinuations"/>) goes on on the receive thread, as a
/// completion does.
/// </para>
/// </summary>
/// <param name="connection">Whose commands they are.</param>
internal sealed class AnsweredCommands(NbdConnection connection) : IThreadPoolWorkItem
{
    // After as many the pool's thread is given back: others want it, too.
    private const int MostInARow = 256;

    private readonly ConcurrentQueue<IAwaitedCommand> _answered = new();

    // Whether a work item is queued that has not begun.
    private int _isRequested;

    /// <summary>The connection that this thread hands on commands of; null on other threads.</summary>
    [field: ThreadStatic]
    internal static NbdConnection? OfThisThread { get; private set; }

    /// <summary>Whether nobody who goes on blocks. Set before the first command.</summary>
    internal bool StaysOnReceiveThread { get; set; }

    /// <summary>Whether a thread of the pool will soon begin with <see cref="NbdConnection.SendGathered"/>.</summary>
    internal bool IsRequested => Volatile.Read(ref _isRequested) != 0;

    /// <summary>Commands that were added since the last <see cref="HandOn"/>. For the receive thread alone.</summary>
    internal int New { get; private set; }

    /// <summary>Takes a command in. On the receive thread, which has to call <see cref="HandOn"/> before it waits.</summary>
    internal void Add(IAwaitedCommand command)
    {
        _answered.Enqueue(command);
        New++;
    }

    /// <summary>Has the pool go on with what was added, or does so itself. On the receive thread.</summary>
    internal void HandOn()
    {
        if (New == 0)
        {
            return;
        }

        // Where the connection ends nobody receives any more: whoever waits for that must not hold it up.
        if (StaysOnReceiveThread && NbdConnection.OfThisThread == connection)
        {
            // They add only what was received before: the loop ends.
            while (_answered.TryDequeue(out IAwaitedCommand? command))
            {
                GoOnHere(command);
            }

            New = 0;
            return;
        }

        New = 0;
        Request();
    }

    private static void GoOnHere(IAwaitedCommand command)
    {
        try
        {
            command.GoOn();
        }
        catch (Exception e)
        {
            // Only a callback that is no async method throws. That ends the program, as on the pool, and is no fault of the
            // connection.
            _ = ThreadPool.UnsafeQueueUserWorkItem(
                static thrown => thrown.Throw(), ExceptionDispatchInfo.Capture(e), preferLocal: false);
        }
    }

    void IThreadPoolWorkItem.Execute()
    {
        ThreadProcessors.Release();

        // In this order: what is gathered from now on is not ours to send.
        _ = Interlocked.Exchange(ref _isRequested, 0);
        connection.SendGathered();
        OfThisThread = connection;
        for (int i = 0; i < MostInARow && _answered.TryDequeue(out IAwaitedCommand? command); i++)
        {
            RequestForRest();
            command.GoOn();
        }

        OfThisThread = null;
        RequestForRest();
        connection.SendGathered();
    }

    private void RequestForRest()
    {
        if (!_answered.IsEmpty)
        {
            Request();
        }
    }

    private void Request()
    {
        if (Interlocked.Exchange(ref _isRequested, 1) == 0)
        {
            _ = ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
        }
    }
}
