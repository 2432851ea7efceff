using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// Waits for a socket, but not past a deadline and not after a cancellation. Belongs to one thread; cancelling
/// may come from any.
/// </summary>
internal sealed unsafe class SocketWait : IDisposable
{
    private readonly CancellationToken _cancellationToken;
    private readonly CancellationTokenRegistration _registration;
    // An eventfd that the cancellation makes readable; -1 in poll(2) when nothing can cancel.
    private readonly SafeFd? _cancelled;

    public SocketWait(Deadline deadline, CancellationToken cancellationToken)
    {
        Deadline = deadline;
        _cancellationToken = cancellationToken;
        if (cancellationToken.CanBeCanceled)
        {
            int fd = LibC.eventfd(0, LibC.EFD_CLOEXEC | LibC.EFD_NONBLOCK);
            if (fd < 0)
            {
                throw LinuxException.FromLastError("eventfd");
            }

            _cancelled = new SafeFd(fd);
            _registration = cancellationToken.UnsafeRegister(static state => Signal((SafeFd)state!), _cancelled);
        }
    }

    /// <summary>When waiting ends; it may be moved closer.</summary>
    public Deadline Deadline { get; set; }

    /// <summary>Returns when the socket has one of the events, an error or a hang-up.</summary>
    /// <returns>False when the deadline passed.</returns>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public bool Until(int socket, short events)
    {
        pollfd* fds = stackalloc pollfd[2];
        fds[0] = new pollfd { fd = socket, events = events };
        fds[1] = new pollfd { fd = _cancelled?.Fd ?? -1, events = LibC.POLLIN };
        while (true)
        {
            _cancellationToken.ThrowIfCancellationRequested();
            int remaining = Deadline.RemainingMilliseconds;
            int ready = LibC.poll(fds, 2, remaining);
            if (ready > 0 && fds[0].revents != 0)
            {
                _cancellationToken.ThrowIfCancellationRequested();
                return true;
            }

            if (ready == 0 && remaining >= 0 && Deadline.HasPassed)
            {
                return false;
            }

            if (ready < 0 && LinuxException.LastErrno != Errno.EINTR)
            {
                throw LinuxException.FromLastError("poll");
            }
        }
    }

    /// <summary>Sleeps, but not past the deadline and not after a cancellation.</summary>
    /// <returns>False when the deadline passed.</returns>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public bool Pause(TimeSpan time)
    {
        Deadline end = Deadline;
        Deadline = Deadline.Earliest(end, Deadline.After(time));
        Until(-1, 0);
        Deadline = end;
        return !end.HasPassed;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // Waits for a running callback, so that none writes to a closed descriptor.
        _registration.Dispose();
        _cancelled?.Dispose();
    }

    private static void Signal(SafeFd eventFd)
    {
        ulong one = 1;
        _ = LibC.write(eventFd.Fd, &one, sizeof(ulong));
    }
}
