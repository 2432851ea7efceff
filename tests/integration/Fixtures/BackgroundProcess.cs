using System.Diagnostics;
using System.Text;
using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>A child process whose output is kept. It is killed when this object is disposed.</summary>
internal sealed class BackgroundProcess : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _log = new();
    private readonly string _commandLine;
    private int? _finalExitCode;

    private BackgroundProcess(Process process, string commandLine)
    {
        _process = process;
        _commandLine = commandLine;
    }

    public int Id { get; private set; }

    public bool HasExited => _finalExitCode is not null || _process.HasExited;

    /// <summary>The exit status; 128 + N when signal N ended the process.</summary>
    public int ExitCode => _finalExitCode ?? _process.ExitCode;

    /// <summary>What it wrote so far to standard output and standard error. Complete once <see cref="WaitForExit"/> returned.</summary>
    public string Log
    {
        get
        {
            lock (_log)
            {
                return _log.ToString();
            }
        }
    }

    /// <summary>Starts a program. Its standard input is empty, its TMPDIR is <paramref name="temporary"/>.</summary>
    /// <exception cref="InvalidOperationException">The program cannot be started: a missing tool is a failure.</exception>
    public static BackgroundProcess Start(
        string program, IEnumerable<string> arguments, string? temporary = null)
    {
        ProcessStartInfo info = new(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = "/",
        };
        // Daemons may be in sbin, which the PATH of an ordinary user lacks.
        info.Environment["PATH"] += ":/usr/sbin:/sbin";
        info.Environment["LC_ALL"] = "C";
        if (temporary is not null)
        {
            info.Environment["TMPDIR"] = temporary;
        }

        string commandLine = string.Join(' ', info.ArgumentList.Prepend(program));
        Process process = new() { StartInfo = info };
        BackgroundProcess started = new(process, commandLine);
        process.OutputDataReceived += started.Keep;
        process.ErrorDataReceived += started.Keep;
        try
        {
            SpawningThread.Run(() => process.Start());
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new InvalidOperationException($"cannot start {commandLine}: {e.Message}; is its package installed?", e);
        }

        started.Id = process.Id;
        process.StandardInput.Close();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return started;
    }

    /// <summary>Sends a signal (LibC.SIGTERM ...). Nothing happens when the process is gone already.</summary>
    public void Signal(int signal)
    {
        if (!HasExited)
        {
            _ = LibC.kill(Id, signal);
        }
    }

    /// <summary>Waits until the process ended and all its output was read; returns the exit status.</summary>
    public int WaitForExit(TimeSpan? limit = null)
    {
        TimeSpan bound = limit ?? Wait.Default;
        if (!_process.WaitForExit(bound))
        {
            throw new TimeoutException($"still running after {bound.TotalSeconds} s: {this}");
        }

        // Also waits for the end of its output. A grandchild may hold that open, hence the limit.
        Task.Run(_process.WaitForExit).Wait(TimeSpan.FromSeconds(2));
        return ExitCode;
    }

    public override string ToString()
    {
        string state = HasExited ? $"exit status {ExitCode}" : $"running, process {Id}";
        return $"{_commandLine} ({state})\n{Log}";
    }

    public void Dispose()
    {
        if (_finalExitCode is null)
        {
            Signal(LibC.SIGKILL);
            // A process that sleeps uninterruptibly stays; that is for the test to complain about.
            _finalExitCode = _process.WaitForExit(TimeSpan.FromSeconds(5)) ? _process.ExitCode : -1;
            _process.Dispose();
        }
    }

    private void Keep(object sender, DataReceivedEventArgs line)
    {
        if (line.Data is not null)
        {
            lock (_log)
            {
                _log.Append(line.Data).Append('\n');
            }
        }
    }
}
