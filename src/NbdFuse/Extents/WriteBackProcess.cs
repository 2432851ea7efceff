using Linux;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// Has the kernel send what is dirty of a file of ours, which only a process that has it open can ask for. That waits
/// for our own answers. So a process of its own does it (this program, with a first argument that is not for users): it
/// holds nothing that keeps the mount alive when we are killed, which frees it. Thread-safe.
/// </summary>
/// <remarks>
/// A notification from here (FUSE_NOTIFY_INVAL_INODE) would do it, too. But a thread that waits in one holds /dev/fuse
/// open, so that after a SIGKILL meanwhile nobody would ever answer, nor end, the requests of the mount.
/// </remarks>
/// <param name="path">The file.</param>
/// <param name="device">"MAJOR:MINOR" of the mount: whatever else stands at the path is left alone.</param>
internal sealed class WriteBackProcess(string path, string device) : IDisposable
{
    private const string Verb = "--write-back-mounted-file";
    private const int QuestionBytes = 2 * sizeof(ulong);

    // A server that does not answer in time makes the file all data.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(2);

    // Who has it uses the process. Guards the fields.
#pragma warning disable CA2213 // Without a wait handle it holds nothing, and who waits for it may outlive the mount.
    private readonly SemaphoreSlim _turn = new(1);
#pragma warning restore CA2213
    private ChildProcess? _child;
    private SafeFd? _questions;
    private SafeFd? _answers;

    /// <summary>Whether this process was started to do it.</summary>
    internal static bool IsAskedFor(string[] arguments) => arguments is [Verb, _, _];

    /// <summary>In the daemon.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="end">The byte after the last.</param>
    /// <returns>Whether nothing of the range was dirty at a moment after the call.</returns>
    internal async Task<bool> Run(ulong start, ulong end)
    {
        if (!await _turn.WaitAsync(s_patience).ConfigureAwait(false))
        {
            return false;
        }

        try
        {
            return await Task.Factory.StartNew(
                () => Ask(start, end), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)
                .ConfigureAwait(false);
        }
        finally
        {
            _ = _turn.Release();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Drop();

    /// <summary>In the process of its own: until the daemon is gone or has enough of it.</summary>
    /// <returns>The exit status.</returns>
    internal static unsafe int Run(string[] arguments)
    {
        ulong* question = stackalloc ulong[2];
        while (LibC.read(0, question, QuestionBytes) == QuestionBytes)
        {
            int fd = MountedFile.Open(arguments[1], arguments[2], LibC.O_RDONLY);
            int answer = fd < 0 ? fd : FileCalls.WriteBack(fd, (long)question[0], (long)(question[1] - question[0]));
            if (LibC.write(1, &answer, sizeof(int)) != sizeof(int))
            {
                break;
            }

            if (fd >= 0)
            {
                // close(2) waits for the inode, which whoever waits for the answer has locked, and perhaps the next one.
                new Thread(() => _ = LibC.close(fd)) { IsBackground = true }.Start();
            }
        }

        return 0;
    }

    private unsafe bool Ask(ulong start, ulong end)
    {
        try
        {
            _child ??= Start();
            ulong* question = stackalloc ulong[] { start, end };
            int answer = -1;
            pollfd poll = new() { fd = _answers!.Fd, events = LibC.POLLIN };
            if (LibC.write(_questions!.Fd, question, QuestionBytes) == QuestionBytes
                && LibC.poll(&poll, 1, (int)s_patience.TotalMilliseconds) == 1
                && LibC.read(_answers.Fd, &answer, sizeof(int)) == sizeof(int))
            {
                return answer == 0;
            }
        }
        catch (LinuxException)
        {
            // It cannot be run.
        }

        Drop();
        return false;
    }

    private unsafe ChildProcess Start()
    {
        int* questions = stackalloc int[2];
        int* answers = stackalloc int[2];
        if (LibC.pipe2(questions, LibC.O_CLOEXEC) < 0)
        {
            throw LinuxException.FromLastError("pipe");
        }

        using SafeFd theirQuestions = new(questions[0]);
        SafeFd ourQuestions = new(questions[1]);
        if (LibC.pipe2(answers, LibC.O_CLOEXEC) < 0)
        {
            ourQuestions.Dispose();
            throw LinuxException.FromLastError("pipe");
        }

        using SafeFd theirAnswers = new(answers[1]);
        (_questions, _answers) = (ourQuestions, new SafeFd(answers[0]));
        return ChildProcess.Spawn(
            ["/proc/self/exe", Verb, path, device],
            new ChildProcessOptions
            {
                FileDescriptors = [(theirQuestions, 0), (theirAnswers, 1)],
                OwnProcessGroup = true,
            });
    }

    private void Drop()
    {
        _questions?.Dispose();
        _answers?.Dispose();
        ChildProcess? child = _child;
        (_child, _questions, _answers) = (null, null, null);
        if (child is not null)
        {
            // It ends at the end of its input; or not before a server that hangs is given up.
            child.Kill(LibC.SIGKILL);
            _ = Task.Factory.StartNew(
                child.Dispose, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }
    }
}
