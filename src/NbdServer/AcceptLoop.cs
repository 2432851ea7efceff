using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>A thread that accepts clients on all listening sockets until it is disposed.</summary>
internal sealed unsafe class AcceptLoop : IDisposable
{
    private const int PauseMilliseconds = 100;

    private readonly IReadOnlyList<Listener> _listeners;
    private readonly Action<SafeFd> _accepted;
    private readonly ServerLog _log;
    private readonly SafeFd _stopped;
    private readonly Thread _thread;

    /// <param name="listeners">Outlive this object.</param>
    /// <param name="accepted">Owns the socket; must not throw.</param>
    /// <param name="log">Takes what goes wrong.</param>
    public AcceptLoop(IReadOnlyList<Listener> listeners, Action<SafeFd> accepted, ServerLog log)
    {
        _listeners = listeners;
        _accepted = accepted;
        _log = log;
        int fd = LibC.eventfd(0, LibC.EFD_CLOEXEC | LibC.EFD_NONBLOCK);
        _stopped = fd < 0 ? throw LinuxException.FromLastError("eventfd") : new SafeFd(fd);
        _thread = new Thread(Run) { Name = "nbd accept", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Returns when no more client is accepted.</summary>
    public void Dispose()
    {
        ulong one = 1;
        _ = LibC.write(_stopped.Fd, &one, sizeof(ulong));
        _thread.Join();
        _stopped.Dispose();
    }

    private void Run()
    {
        pollfd[] polled = new pollfd[_listeners.Count + 1];
        Errno lastProblem = Errno.None;
        while (true)
        {
            for (int i = 0; i < polled.Length; i++)
            {
                SafeFd fd = i == 0 ? _stopped : _listeners[i - 1].Socket;
                // After a problem such as too many open files the clients wait a moment.
                bool isPaused = lastProblem != Errno.None && i > 0;
                polled[i] = new() { fd = isPaused ? -1 : fd.Fd, events = LibC.POLLIN };
            }

            fixed (pollfd* fds = polled)
            {
                int timeout = lastProblem == Errno.None ? -1 : PauseMilliseconds;
                if (LibC.poll(fds, (uint)polled.Length, timeout) < 0)
                {
                    continue;
                }
            }

            if (polled[0].revents != 0)
            {
                return;
            }

            Errno problem = Errno.None;
            for (int i = 1; i < polled.Length && problem == Errno.None; i++)
            {
                problem = polled[i].revents == 0 ? Errno.None : Accept(_listeners[i - 1].Socket);
            }

            if (problem != Errno.None && problem != lastProblem)
            {
                _log.Write($"accept a client: {LinuxException.Describe(problem)}");
            }

            lastProblem = problem;
        }
    }

    /// <returns>What hinders more than one client.</returns>
    private Errno Accept(SafeFd listener)
    {
        int fd = LibC.accept4(listener.Fd, null, null, LibC.SOCK_CLOEXEC);
        if (fd >= 0)
        {
            _accepted(new SafeFd(fd));
            return Errno.None;
        }

        // One client that left before, or that another process took; all else will be the same the next time.
        Errno errno = LinuxException.LastErrno;
        return errno is Errno.EINTR or Errno.EAGAIN or Errno.ECONNABORTED or Errno.EPROTO or Errno.EPERM
            ? Errno.None
            : errno;
    }
}
