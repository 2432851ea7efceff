using System.Globalization;
using Linux;
using Tmds.Linux;

namespace NbdServe;

/// <summary>The shell command of --run, which finds the server in its environment.</summary>
internal sealed class RunCommand : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(1);

    private readonly ChildProcess _child;
    private readonly ManualResetEvent _ended = new(false);

    private RunCommand(ChildProcess child)
    {
        _child = child;
    }

    /// <summary>Set once the command has ended.</summary>
    internal WaitHandle Ended => _ended;

    /// <exception cref="LinuxException">There is no shell.</exception>
    internal static RunCommand Start(string command, string uri, Listening listening)
    {
        RunCommand run = new(ChildProcess.Spawn(
            ["/bin/sh", "-c", command],
            new ChildProcessOptions
            {
                Environment = new Dictionary<string, string?>
                {
                    ["uri"] = uri,
                    ["unixsocket"] = listening.UnixSocket ?? "",
                    ["port"] = listening.Port?.ToString(CultureInfo.InvariantCulture) ?? "",
                },
            }));
        new Thread(run.WaitForExit) { Name = "run", IsBackground = true }.Start();
        return run;
    }

    /// <summary>Waits for the end, which <paramref name="isStopping"/> hastens, and takes the exit status.</summary>
    internal int End(bool isStopping)
    {
        if (isStopping)
        {
            _child.Kill(LibC.SIGTERM);
            if (!_ended.WaitOne(s_patience))
            {
                _child.Kill(LibC.SIGKILL);
            }
        }

        _ended.WaitOne();
        return _child.ExitStatus ?? 1;
    }

    public void Dispose()
    {
        _child.Dispose();
        _ended.Dispose();
    }

    private void WaitForExit()
    {
        while (!_child.WaitForExit(TimeSpan.FromDays(1)))
        {
        }

        _ended.Set();
    }
}
