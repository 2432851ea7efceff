using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>How a test wants nbdfuse started. The mountpoint is relative to the test's folder.</summary>
internal sealed record MountRequest
{
    public string[] Options { get; init; } = [];

    /// <summary>A folder (made when missing), folder/name, or an existing regular file.</summary>
    public string MountPoint { get; init; } = "mnt/disk";

    public required string[] Source { get; init; }

    public bool AsOrdinaryUser { get; init; }

    /// <summary>When the test is taken for hung, and nbdfuse killed.</summary>
    public TimeSpan Limit { get; init; } = TimeSpan.FromSeconds(100);
}

/// <summary>A running nbdfuse and the file that it shows.</summary>
internal sealed class NbdFuseMount : IDisposable
{
    private readonly Timer _watchdog;

    private NbdFuseMount(BackgroundProcess process, string mountPath, string file, string pidFile, TimeSpan limit)
    {
        Process = process;
        MountPath = mountPath;
        File = file;
        PidFile = pidFile;
        // The end of the daemon ends every request, so a test that hangs in the mount's file fails instead.
        _watchdog = new(_ => process.Signal(LibC.SIGKILL), null, limit, Timeout.InfiniteTimeSpan);
    }

    public BackgroundProcess Process { get; }

    /// <summary>What is mounted over: the folder, or the file itself.</summary>
    public string MountPath { get; }

    /// <summary>The file that shows the export.</summary>
    public string File { get; }

    public string PidFile { get; }

    public string Log => Process.Log;

    public bool IsMounted => MountTable.IsMounted(MountPath);

    /// <summary>Starts nbdfuse and waits until the file is usable.</summary>
    /// <exception cref="InvalidOperationException">It ended instead; the message has its output.</exception>
    public static NbdFuseMount Start(TestDirectory directory, MountRequest request)
    {
        (string mountPath, string file) = Prepare(directory, request);
        string pidFile = directory.FileAt($"nbdfuse-{Guid.NewGuid():N}"[..20] + ".pid");
        string mountPoint = directory.FileAt(request.MountPoint);
        BackgroundProcess process = Launch(
            directory, request.AsOrdinaryUser, ["-P", pidFile, .. request.Options, mountPoint, .. request.Source]);
        NbdFuseMount mount = new(process, mountPath, file, pidFile, request.Limit);
        Wait.Until(
            () => process.HasExited || (System.IO.File.Exists(pidFile) && new FileInfo(pidFile).Length > 0),
            $"nbdfuse is ready: {process}",
            TimeSpan.FromSeconds(30));
        if (process.HasExited)
        {
            process.WaitForExit();
            throw new InvalidOperationException($"nbdfuse ended at once: {process}");
        }

        return mount;
    }

    /// <summary>Starts the program under test with these arguments, without waiting for anything.</summary>
    public static BackgroundProcess Launch(TestDirectory directory, bool asOrdinaryUser, params string[] arguments)
    {
        string program = asOrdinaryUser ? ReachableCopy(directory) : Repository.NbdFuse;
        string[] commandLine = [program, .. arguments];
        commandLine = asOrdinaryUser ? Tool.AsOrdinaryUser(commandLine) : commandLine;
        return BackgroundProcess.Start(commandLine[0], commandLine[1..], directory.Temporary);
    }

    /// <summary>
    /// Unmounts with fusermount3 -u and checks that nbdfuse then ends with this status and leaves nothing. The status
    /// is 1 when the last flush failed: what was written may be lost.
    /// </summary>
    public void Unmount(int exitCode = 0)
    {
        MountTable.Unmount(MountPath);
        CheckCleanEnd(exitCode: exitCode);
    }

    /// <summary>Ends nbdfuse with a signal and checks that it ends well, unmounted, and leaves nothing.</summary>
    public void Stop(int signal, TimeSpan? limit = null)
    {
        Process.Signal(signal);
        CheckCleanEnd(limit);
    }

    /// <summary>Checks that nbdfuse, which is on its way out, ends with this status, unmounted, its pidfile removed.</summary>
    public void CheckCleanEnd(TimeSpan? limit = null, int exitCode = 0)
    {
        int actual = Process.WaitForExit(limit);
        Assert.True(actual == exitCode, $"exit status {actual} instead of {exitCode}");
        Assert.False(IsMounted, $"{MountPath} is still mounted");
        Assert.False(System.IO.File.Exists(PidFile), "the pidfile is still there");
    }

    public void Dispose()
    {
        _watchdog.Dispose();
        Process.Dispose();
        if (IsMounted)
        {
            Tool.Try("fusermount3", "-u", "-z", MountPath);
        }
    }

    private static (string MountPath, string File) Prepare(TestDirectory directory, MountRequest request)
    {
        string path = directory.FileAt(request.MountPoint);
        if (System.IO.File.Exists(path))
        {
            Own(path, request);
            return (path, path);
        }

        if (Directory.Exists(path))
        {
            Own(path, request);
            return (path, Path.Combine(path, "nbd"));
        }

        // A corpse stays as it is: not even its existence can be asked for.
        string folder = Path.GetDirectoryName(path)!;
        if (!MountTable.IsMounted(folder))
        {
            Directory.CreateDirectory(folder);
            Own(folder, request);
        }

        return (folder, path);
    }

    // fusermount3 mounts only over what the user may write.
    private static void Own(string path, MountRequest request)
    {
        if (request.AsOrdinaryUser && LibC.geteuid() == 0)
        {
            Tool.Run("chown", "65534:65534", path);
        }
    }

    // The clone may be in a folder, such as /root, that an ordinary user cannot enter.
    private static string ReachableCopy(TestDirectory directory)
    {
        string copy = directory.FileAt("nbdfuse");
        if (!System.IO.File.Exists(copy))
        {
            System.IO.File.Copy(Repository.NbdFuse, copy);
        }

        return copy;
    }
}
