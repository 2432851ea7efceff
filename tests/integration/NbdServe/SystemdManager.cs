using Tmds.Linux;

namespace IntegrationTests.NbdServeTests;

/// <summary>
/// A systemd of our own, as process 1 of namespaces, with its own cgroup, /run and /etc: real units on any machine. Needs
/// root. It must not do to this machine what systemd does when it boots: it has no units but ours, and cannot write to
/// anything but the folder of the test.
/// </summary>
internal sealed class SystemdManager : IDisposable
{
    // $1: folder of the units, $2: folder that becomes /etc/nbdserve, $3: nbdserve, $4: folder of the test
    private const string Script =
        """
        set -eu
        mount --bind "$4" "$4"
        mount -o remount,bind,ro /
        mount -o remount,bind,ro /dev
        mount -o remount,bind,ro /sys
        mount --bind /proc/sys /proc/sys
        mount -o remount,bind,ro /proc/sys
        mount -t tmpfs tmpfs /run
        mkdir -p /run/systemd/system /run/upper/nbdserve /run/work /run/bin
        cp "$2"/* /run/upper/nbdserve
        mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
        for folder in /lib/systemd/system /lib/systemd/system-generators /etc/systemd; do
            mount -t tmpfs -o ro tmpfs "$folder"
        done
        for target in test sysinit basic sockets shutdown; do
            printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $target > /run/systemd/system/$target.target
        done
        cp "$1"/* /run/systemd/system
        cp "$3" /run/bin/nbdserve
        mount --bind /run/bin /usr/local/bin
        mount -t tmpfs tmpfs /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec env -i container=test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            SYSTEMD_LOG_TARGET=console /lib/systemd/systemd --system --unit=test.target
        """;

    private readonly string _cgroup;
    private readonly BackgroundProcess _process;
    private int _id;

    private SystemdManager(string cgroup, BackgroundProcess process)
    {
        (_cgroup, _process) = (cgroup, process);
    }

    /// <summary>Starts it with the units that the project ships.</summary>
    /// <param name="folder">The folder of the test.</param>
    /// <param name="configurations">A folder of the files that are to be in /etc/nbdserve.</param>
    internal static SystemdManager Start(string folder, string configurations)
    {
        string cgroup = Path.Combine(CgroupRoot(), $"nbdfuse-test-{Guid.NewGuid():N}");
        Directory.CreateDirectory(cgroup);
        BackgroundProcess process = BackgroundProcess.Start(
            "sh",
            [
                "-c",
                $"echo $$ > {cgroup}/cgroup.procs && exec unshare --cgroup --mount --pid --uts --ipc --net --fork --mount-proc "
                    + "--kill-child sh -c \"$0\" sh \"$@\"",
                Script,
                Path.Combine(Repository.Root, "packaging", "systemd"),
                configurations,
                Repository.NbdServe,
                folder,
            ]);
        SystemdManager manager = new(cgroup, process);
        try
        {
            Wait.Until(manager.IsRunning, $"systemd runs: {process}");
            return manager;
        }
        catch
        {
            manager.Dispose();
            throw;
        }
    }

    /// <summary>Runs a program among the units; it must succeed.</summary>
    internal string Run(params string[] command) => Tool.Run("nsenter", Arguments(command));

    internal (int ExitCode, string Output) Try(params string[] command) => Tool.Try("nsenter", Arguments(command));

    /// <summary>A property of a unit, as systemctl show prints it.</summary>
    internal string Show(string unit, string property) =>
        Run("systemctl", "show", "--value", "--property", property, unit).Trim();

    public void Dispose()
    {
        if (_id != 0)
        {
            _ = LibC.kill(_id, LibC.SIGKILL);
        }

        _process.Dispose();
        Wait.Until(
            () => File.ReadAllText(Path.Combine(_cgroup, "cgroup.events")).Contains("populated 0", StringComparison.Ordinal),
            "all processes of systemd are gone");
        foreach (string folder in Directory.GetDirectories(_cgroup, "*", SearchOption.AllDirectories)
            .Append(_cgroup).OrderByDescending(folder => folder.Length))
        {
            Directory.Delete(folder);
        }
    }

    private static string CgroupRoot() => File.ReadLines("/proc/self/mounts").Select(line => line.Split(' '))
        .FirstOrDefault(fields => fields[2] == "cgroup2")?[1]
        ?? throw new InvalidOperationException("no cgroup2 file system is mounted");

    private string[] Arguments(string[] command) =>
        ["--target", $"{_id}", "--mount", "--pid", "--uts", "--net", "--", .. command];

    private bool IsRunning()
    {
        if (_process.HasExited)
        {
            throw new InvalidOperationException($"systemd does not start: {_process}");
        }

        _id = ProcessTable.ChildrenOf(_process.Id) is [int id] ? id : 0;
        return _id != 0 && Try("systemctl", "is-active", "--quiet", "test.target").ExitCode == 0;
    }
}
