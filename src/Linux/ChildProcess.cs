using System.Collections;
using System.Globalization;
using Tmds.Linux;

namespace Linux;

/// <summary>How to start a <see cref="ChildProcess"/>.</summary>
public sealed record ChildProcessOptions
{
    /// <summary>Environment variables that the child gets in place of or besides ours; a null value removes one.</summary>
    public IReadOnlyDictionary<string, string?> Environment { get; init; } = new Dictionary<string, string?>();

    /// <summary>
    /// Descriptors that the child gets: which of ours, and under which number. All others of ours are opened
    /// with O_CLOEXEC and stay ours, but for 0, 1 and 2.
    /// </summary>
    public IReadOnlyList<(SafeFd Parent, int Child)> FileDescriptors { get; init; } = [];

    /// <summary>A process group of its own, so that Ctrl-C at our terminal does not reach the child.</summary>
    public bool OwnProcessGroup { get; init; }

    /// <summary>The child gets SIGTERM when we end, however we end.</summary>
    public bool DieWithParent { get; init; }

    /// <summary>Name of an environment variable that is set to the child's own process id.</summary>
    public string? OwnPidVariable { get; init; }
}

/// <summary>
/// A child process that is waited for by its own process id only. Not thread-safe but for <see cref="Kill"/>.
/// </summary>
public sealed unsafe class ChildProcess : IDisposable
{
    // The program keeps the process id through setpriv and sh, both of which exec. setpriv asks for the signal
    // at our death (prctl(2) PR_SET_PDEATHSIG), which survives exec; the shell then checks that we did not
    // die before that. All arguments travel as "$@": nothing is quoted or expanded.
    private const string ParentCheck = "[ \"$PPID\" = \"$0\" ] || exit 125; ";
    private const string Exec = "exec \"$@\"";

    private readonly SafeFd _pidFd;
    private bool _reaped;

    private ChildProcess(int processId, SafeFd pidFd)
    {
        ProcessId = processId;
        _pidFd = pidFd;
    }

    /// <summary>The child's process id.</summary>
    public int ProcessId { get; }

    /// <summary>How the child ended: "exit status 1", "signal 9"; null as long as it was not waited for.</summary>
    public string? ExitDescription { get; private set; }

    /// <summary>The exit status, or 128 + the signal that ended it; null as long as it was not waited for.</summary>
    public int? ExitStatus { get; private set; }

    /// <summary>Starts a program.</summary>
    /// <param name="argv">The program, looked up in PATH unless it holds a slash, and its arguments.</param>
    /// <param name="options">What the child inherits.</param>
    /// <exception cref="LinuxException">The program does not exist (ENOENT), is not executable (EACCES), ...</exception>
    public static ChildProcess Spawn(IReadOnlyList<string> argv, ChildProcessOptions options)
    {
        string program = FindExecutable(argv[0]);
        List<string> command = [];
        string? script = null;
        if (options.DieWithParent && TryFindExecutable("setpriv") is string setpriv)
        {
            command.AddRange([setpriv, "--pdeathsig", "TERM", "--"]);
            script = ParentCheck;
        }

        if (options.OwnPidVariable is string variable)
        {
            script += $"export {variable}=$$; ";
        }

        if (script is not null)
        {
            command.AddRange(
                ["/bin/sh", "-c", script + Exec, Environment.ProcessId.ToString(CultureInfo.InvariantCulture)]);
        }

        command.AddRange(argv);
        string path = command.Count == argv.Count ? program : command[0];
        return options.DieWithParent
            ? SpawnThread.Run(() => SpawnHere(path, command, argv[0], options))
            : SpawnHere(path, command, argv[0], options);
    }

    /// <summary>Sends a signal, unless the child was already waited for.</summary>
    public void Kill(int signal)
    {
        if (!_reaped)
        {
            _ = LibC.kill(ProcessId, signal);
        }
    }

    /// <summary>Waits until the child ends, and takes its exit status.</summary>
    /// <returns>False when it still runs after <paramref name="timeout"/>.</returns>
    public bool WaitForExit(TimeSpan timeout)
    {
        if (_reaped)
        {
            return true;
        }

        long end = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
        while (true)
        {
            pollfd poll = new() { fd = _pidFd.Fd, events = LibC.POLLIN };
            int ready = LibC.poll(&poll, 1, (int)Math.Clamp(end - Environment.TickCount64, 0, int.MaxValue));
            if (ready > 0)
            {
                break;
            }

            if (ready == 0)
            {
                return false;
            }
        }

        int status = 0;
        while (Interop.waitpid(ProcessId, &status, 0) < 0 && LinuxException.LastErrno == Errno.EINTR)
        {
        }

        _reaped = true;
        int signal = status & 0x7f;
        ExitStatus = signal == 0 ? (status >> 8) & 0xff : 128 + signal;
        ExitDescription = signal == 0 ? $"exit status {ExitStatus}" : $"signal {signal}";
        return true;
    }

    /// <summary>Ends the child if it still runs (SIGTERM, after five seconds SIGKILL) and waits for it.</summary>
    public void Dispose()
    {
        if (!_reaped)
        {
            Kill(LibC.SIGTERM);
            if (!WaitForExit(TimeSpan.FromSeconds(5)))
            {
                Kill(LibC.SIGKILL);
                _ = WaitForExit(TimeSpan.FromSeconds(5));
            }
        }

        _pidFd.Dispose();
    }

    private static string FindExecutable(string name) =>
        TryFindExecutable(name) ?? throw new LinuxException(
            $"run '{name}'", name.Contains('/') && File.Exists(name) ? Errno.EACCES : Errno.ENOENT);

    private static string? TryFindExecutable(string name)
    {
        if (name.Contains('/'))
        {
            return IsExecutable(name) ? name : null;
        }

        string path = Environment.GetEnvironmentVariable("PATH") ?? "/usr/local/bin:/usr/bin:/bin";
        return path.Split(':')
            .Select(folder => folder.Length == 0 ? "./" + name : folder + "/" + name)
            .FirstOrDefault(IsExecutable);
    }

    private static bool IsExecutable(string path)
    {
        fixed (byte* terminated = NativeStrings.Terminated(path))
        {
            return LibC.access(terminated, LibC.X_OK) == 0 && File.Exists(path);
        }
    }

    private static ChildProcess SpawnHere(
        string path, List<string> command, string name, ChildProcessOptions options)
    {
        byte* actions = stackalloc byte[Interop.SpawnStructBytes];
        byte* attributes = stackalloc byte[Interop.SpawnStructBytes];
        byte* defaulted = stackalloc byte[Interop.SigsetBytes];
        byte* unblocked = stackalloc byte[Interop.SigsetBytes];
        using NativeStrings argv = new(command);
        using NativeStrings envp = new(ChildEnvironment(options.Environment));
        List<SafeFd> copies = [];
        _ = Interop.posix_spawn_file_actions_init(actions);
        _ = Interop.posix_spawnattr_init(attributes);
        try
        {
            foreach ((SafeFd parent, int child) in options.FileDescriptors)
            {
                // A copy above all target numbers: one dup2 cannot overwrite the source of the next.
                SafeFd copy = Duplicate(parent);
                copies.Add(copy);
                _ = Interop.posix_spawn_file_actions_adddup2(actions, copy.Fd, child);
            }

            // The runtime ignores SIGPIPE, and an ignored signal stays ignored across exec.
            _ = Interop.sigemptyset(defaulted);
            _ = Interop.sigaddset(defaulted, LibC.SIGPIPE);
            _ = Interop.sigemptyset(unblocked);
            _ = Interop.posix_spawnattr_setsigdefault(attributes, defaulted);
            _ = Interop.posix_spawnattr_setsigmask(attributes, unblocked);
            _ = Interop.posix_spawnattr_setpgroup(attributes, 0);
            int flags = Interop.POSIX_SPAWN_SETSIGDEF | Interop.POSIX_SPAWN_SETSIGMASK
                | (options.OwnProcessGroup ? Interop.POSIX_SPAWN_SETPGROUP : 0);
            _ = Interop.posix_spawnattr_setflags(attributes, (short)flags);

            int processId;
            int error;
            fixed (byte* terminated = NativeStrings.Terminated(path))
            {
                error = Interop.posix_spawn(&processId, terminated, actions, attributes, argv.Array, envp.Array);
            }

            if (error != 0)
            {
                throw new LinuxException($"run '{name}'", (Errno)error);
            }

            int pidFd = (int)LibC.syscall(Interop.SYS_pidfd_open, processId, 0);
            if (pidFd < 0)
            {
                LinuxException exception = LinuxException.FromLastError("pidfd_open (Linux 5.3 has it)");
                _ = LibC.kill(processId, LibC.SIGKILL);
                _ = Interop.waitpid(processId, null, 0);
                throw exception;
            }

            return new ChildProcess(processId, new SafeFd(pidFd));
        }
        finally
        {
            _ = Interop.posix_spawn_file_actions_destroy(actions);
            _ = Interop.posix_spawnattr_destroy(attributes);
            copies.ForEach(copy => copy.Dispose());
        }
    }

    private static SafeFd Duplicate(SafeFd fd)
    {
        const int AboveTargets = 64;
        int copy = LibC.fcntl(fd.Fd, LibC.F_DUPFD_CLOEXEC, AboveTargets);
        return copy < 0 ? throw LinuxException.FromLastError("duplicate a descriptor") : new SafeFd(copy);
    }

    private static List<string> ChildEnvironment(IReadOnlyDictionary<string, string?> changes)
    {
        List<string> variables = [];
        foreach (DictionaryEntry variable in Environment.GetEnvironmentVariables())
        {
            if (!changes.ContainsKey((string)variable.Key))
            {
                variables.Add($"{variable.Key}={variable.Value}");
            }
        }

        variables.AddRange(changes.Where(c => c.Value is not null).Select(c => $"{c.Key}={c.Value}"));
        return variables;
    }
}
