using Linux;

namespace Fuse;

/// <summary>A dedicated thread that reads requests from one channel and has them dispatched.</summary>
internal sealed class FuseWorker
{
    private readonly FuseSession _session;
    private readonly DeviceChannel _channel;
    private readonly FuseDispatcher _dispatcher;
    private readonly FuseRequestPool _pool;
    private readonly Thread _thread;
    private long _served;

    internal FuseWorker(
        FuseSession session, DeviceChannel channel, FuseDispatcher dispatcher, FuseRequestPool pool, int index)
    {
        _session = session;
        _channel = channel;
        _dispatcher = dispatcher;
        _pool = pool;
        _thread = new Thread(Run) { Name = $"fuse-{index}", IsBackground = true };
    }

    /// <summary>Requests read, also those without a reply.</summary>
    internal long Served => Volatile.Read(ref _served);

    internal void Start() => _thread.Start();

    internal bool Join(TimeSpan timeout) => _thread.Join(timeout);

    private void Run()
    {
        Exception? fault = null;
        try
        {
            Serve();
        }
#pragma warning disable CA1031 // The end of the thread: whatever it was, it is the session's fault now.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            fault = exception;
        }

        _session.WorkerEnded(fault);
    }

    private unsafe void Serve()
    {
        FuseRequest? request = null;
        while (true)
        {
            request ??= _pool.Rent();
            if (request is null)
            {
                return;
            }

            Errno error = _channel.Read(request.Buffer, _pool.ReadBytes, out int length);
            switch (error)
            {
                case Errno.None:
                    request.TouchedBytes = Math.Max(request.TouchedBytes, length);

                    // Only this thread writes it.
                    Volatile.Write(ref _served, _served + 1);
                    if (_dispatcher.Dispatch(request, _channel, length))
                    {
                        request = null;
                    }

                    break;
                case Errno.EINTR:
                case Errno.ENOENT: // the requester was killed before we read its request
                    break;
                case Errno.EAGAIN: // only when somebody made the device non-blocking
                    _ = _channel.Poll(Deadline.Never);
                    break;
                case Errno.ENODEV: // unmounted
                case Errno.ECONNABORTED: // aborted
                    return;
                default:
                    throw new LinuxException($"read a request from {FuseDevice.Path}", error);
            }
        }
    }
}
