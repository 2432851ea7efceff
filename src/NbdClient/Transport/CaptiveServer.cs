using System.Text;
using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// An NBD server that we started: its only client is us, and it ends with us. Not thread-safe. A
/// <see cref="NbdConnectionPool"/> starts one by itself; this is for those who connect to it more than once.
/// </summary>
public sealed unsafe class CaptiveServer : IDisposable
{
    private const int FirstPassedFd = 3;
    private const int MaximumSocketNameLength = 255;

    // How long a server that lost its clients may take to leave by itself, and after SIGTERM.
    private static readonly TimeSpan s_ownExit = TimeSpan.FromSeconds(2);

    private readonly ChildProcess _process;
    private readonly NbdEndpoint _endpoint;
    private readonly SafeFd? _socketFile;

    private CaptiveServer(ChildProcess process, NbdEndpoint endpoint, SafeFd? socketFile)
    {
        (_process, _endpoint, _socketFile) = (process, endpoint, socketFile);
    }

    /// <summary>Where to connect to.</summary>
    public required NbdEndpoint Address { get; init; }

    /// <summary>Whether <see cref="Address"/> can be connected to more than once.</summary>
    internal bool Listens => _socketFile is not null;

    /// <summary>Starts the server of an endpoint that names one; null for all other endpoints.</summary>
    /// <exception cref="NbdException">
    /// The program cannot be run; EINVAL: <see cref="NbdEndpoint.SocketActivation.SocketName"/> is impossible.
    /// </exception>
    public static CaptiveServer? Start(NbdEndpoint endpoint)
    {
        try
        {
            return endpoint switch
            {
                NbdEndpoint.Command command => StartOnStandardStreams(command),
                NbdEndpoint.SocketActivation activation => StartSocketActivated(activation),
                _ => null,
            };
        }
        catch (LinuxException exception)
        {
            throw new NbdException(exception.Message, exception.Errno, exception);
        }
    }

    /// <summary>
    /// Explains a failed handshake: when the server has ended, or is just about to, that is the reason; but not when it
    /// answered, and ended without a fault because we left.
    /// </summary>
    public NbdException Explain(NbdException failure)
    {
        bool wentAway = failure.Errno == Errno.ECONNRESET;
        if (failure.Errno != Errno.ETIMEDOUT && _process.WaitForExit(TimeSpan.FromSeconds(1))
            && (wentAway || _process.ExitStatus != 0))
        {
            string hint = _process.ExitStatus == 127 ? " (not found)" : "";
            return new NbdException(
                $"{_endpoint}: the server ended with {_process.ExitDescription}{hint} before it served us",
                failure.Errno,
                failure);
        }

        return failure;
    }

    /// <summary>
    /// Waits for the server to end once its connections are closed; helps with SIGTERM and, when
    /// <paramref name="deadline"/> has passed, with SIGKILL.
    /// </summary>
    public void Stop(Deadline deadline)
    {
        // A server on its standard streams leaves at the end of its input; one that listens has to be told.
        if (Listens || !_process.WaitForExit(Shorter(s_ownExit, deadline)))
        {
            _process.Kill(LibC.SIGTERM);
            if (!_process.WaitForExit(Shorter(Timeout.InfiniteTimeSpan, deadline)))
            {
                _process.Kill(LibC.SIGKILL);
                _ = _process.WaitForExit(s_ownExit);
            }
        }
    }

    /// <summary>Kills the server if it has not ended.</summary>
    public void Dispose()
    {
        _process.Dispose();
        _socketFile?.Dispose();
    }

    private static TimeSpan Shorter(TimeSpan time, Deadline deadline)
    {
        int left = deadline.RemainingMilliseconds;
        return left < 0 ? time : time == Timeout.InfiniteTimeSpan || left < time.TotalMilliseconds
            ? TimeSpan.FromMilliseconds(left)
            : time;
    }

    private static CaptiveServer StartOnStandardStreams(NbdEndpoint.Command command)
    {
        int* pair = stackalloc int[2];
        if (LibC.socketpair(LibC.AF_UNIX, LibC.SOCK_STREAM | LibC.SOCK_CLOEXEC, 0, pair) < 0)
        {
            throw LinuxException.FromLastError("make a socket pair");
        }

        SafeFd ours = new(pair[0]);
        using SafeFd theirs = new(pair[1]);
        try
        {
            ChildProcess process = ChildProcess.Spawn(command.Arguments, new ChildProcessOptions
            {
                FileDescriptors = [(theirs, 0), (theirs, 1)],
                OwnProcessGroup = true,
                DieWithParent = true,
            });
            return new CaptiveServer(process, command, socketFile: null)
            {
                Address = new NbdEndpoint.Fd(ours.Fd),
            };
        }
        catch
        {
            ours.Dispose();
            throw;
        }
        finally
        {
            // The endpoint owns the number from here on.
            ours.SetHandleAsInvalid();
        }
    }

    /// <summary>As sd_listen_fds(3) describes: the listening socket is descriptor 3.</summary>
    private static CaptiveServer StartSocketActivated(NbdEndpoint.SocketActivation activation)
    {
        CheckSocketName(activation);
        using SafeFd listener = Listen(out SafeFd socketFile);
        try
        {
            ChildProcess process = ChildProcess.Spawn(activation.Arguments, new ChildProcessOptions
            {
                FileDescriptors = [(listener, FirstPassedFd)],
                Environment = new Dictionary<string, string?>
                {
                    ["LISTEN_FDS"] = "1",
                    ["LISTEN_FDNAMES"] = activation.SocketName,
                    ["LISTEN_PID"] = null,
                    ["LISTEN_PIDFDID"] = null,
                },
                OwnPidVariable = "LISTEN_PID",
                OwnProcessGroup = true,
                DieWithParent = true,
            });
            return new CaptiveServer(process, activation, socketFile)
            {
                Address = new NbdEndpoint.Unix($"/proc/self/fd/{socketFile.Fd}") { Server = activation },
            };
        }
        catch
        {
            socketFile.Dispose();
            throw;
        }
    }

    /// <summary>
    /// LISTEN_FDNAMES is a list with colons between; the rules are those of systemd.socket(5), FileDescriptorName=.
    /// </summary>
    private static void CheckSocketName(NbdEndpoint.SocketActivation activation)
    {
        string name = activation.SocketName;
        if (name.Length is 0 or > MaximumSocketNameLength || name.Any(c => c is < ' ' or > '~' or ':'))
        {
            throw new NbdException(
                $"start {activation}: '{PrintableText.From(name)}' cannot be the name of its socket: use 1 to "
                + $"{MaximumSocketNameLength} printable ASCII characters without a colon",
                Errno.EINVAL);
        }
    }

    /// <summary>
    /// A listening Unix socket whose file is gone before anybody else can see it: only its open
    /// <paramref name="socketFile"/> leads there, so nothing stays behind however we end.
    /// </summary>
    private static SafeFd Listen(out SafeFd socketFile)
    {
        const int Backlog = 1024;
        string folder = Directory.CreateTempSubdirectory("nbd").FullName;
        string path = Path.Combine(folder, "s");
        SafeFd socket = new(LibC.socket(LibC.AF_UNIX, LibC.SOCK_STREAM | LibC.SOCK_CLOEXEC, 0));
        try
        {
            sockaddr_un address = new() { sun_family = LibC.AF_UNIX };
            Span<byte> room = new(address.sun_path, sockaddr_un.sun_path_length - 1);
            if (!Encoding.UTF8.TryGetBytes(path, room, out int pathBytes))
            {
                throw new LinuxException($"listen on {path} (set TMPDIR to a shorter path)", Errno.ENAMETOOLONG);
            }

            if (socket.IsInvalid
                || LibC.bind(socket.Fd, (sockaddr*)&address, sizeof(ushort) + pathBytes + 1) < 0
                || LibC.listen(socket.Fd, Backlog) < 0)
            {
                throw LinuxException.FromLastError($"listen on {path}");
            }

            socketFile = new SafeFd(LibC.open(address.sun_path, LibC.O_PATH | LibC.O_CLOEXEC, default));
            return socketFile.IsInvalid ? throw LinuxException.FromLastError($"open {path}") : socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
        finally
        {
            File.Delete(path);
            Directory.Delete(folder);
        }
    }
}
