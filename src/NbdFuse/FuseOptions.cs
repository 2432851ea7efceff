using System.Globalization;
using Fuse;

namespace NbdFuse;

/// <summary>What the -o options ask for.</summary>
internal sealed record FuseOptions
{
    /// <summary>Allocated blocks change behind the kernel's back; that they are told late does no harm.</summary>
    internal static readonly TimeSpan DefaultAttrTimeout = TimeSpan.FromSeconds(1);

    /// <summary>Names do not change.</summary>
    internal static readonly TimeSpan DefaultEntryTimeout = TimeSpan.FromHours(1);

    internal bool AllowOther { get; private set; }

    internal bool AllowRoot { get; private set; }

    internal bool AutoUnmount { get; private set; }

    internal bool CloneDevice { get; private set; } = Environment.ProcessorCount >= 8;

    internal bool DirectIo { get; private set; }

    internal bool KernelCache { get; private set; }

    internal bool ReadOnly { get; private set; }

    internal bool Debug { get; private set; }

    internal string? Source { get; private set; }

    internal string Subtype { get; private set; } = "nbdfuse";

    internal uint? UserId { get; private set; }

    internal uint? GroupId { get; private set; }

    internal uint? Umask { get; private set; }

    internal uint MaxReadBytes { get; private set; }

    internal int Workers { get; private set; } = 2;

    internal TimeSpan AttrTimeout { get; private set; } = DefaultAttrTimeout;

    internal TimeSpan EntryTimeout { get; private set; } = DefaultEntryTimeout;

    internal FuseMountFlags MountFlags { get; private set; } = FuseMountFlags.NoSuid | FuseMountFlags.NoDev;

    /// <summary>Reads the values of all -o options, each a comma list in which "\," stands for a comma.</summary>
    internal static FuseOptions Parse(IEnumerable<string> lists)
    {
        FuseOptions options = new();
        foreach (string option in lists.SelectMany(SplitList))
        {
            int equals = option.IndexOf('=');
            if (equals < 0)
            {
                options.SetFlag(option);
            }
            else
            {
                options.SetValue(option[..equals], option[(equals + 1)..]);
            }
        }

        return options.AllowOther && options.AllowRoot
            ? throw new UsageException("-o allow_other and -o allow_root exclude each other")
            : options;
    }

    private static List<string> SplitList(string list)
    {
        List<string> options = [];
        string option = "";
        for (int i = 0; i < list.Length; i++)
        {
            if (list[i] == '\\' && i + 1 < list.Length)
            {
                option += list[++i];
            }
            else if (list[i] == ',')
            {
                options.Add(option);
                option = "";
            }
            else
            {
                option += list[i];
            }
        }

        options.Add(option);
        options.RemoveAll(string.IsNullOrEmpty);
        return options;
    }

    private void SetFlag(string name)
    {
        switch (name)
        {
            case "allow_other":
                AllowOther = true;
                break;
            case "allow_root":
                AllowRoot = true;
                break;
            case "auto_unmount":
                AutoUnmount = true;
                break;
            case "clone_fd":
                CloneDevice = true;
                break;
            case "debug":
                Debug = true;
                break;
            case "rw":
                ReadOnly = false;
                break;
            case "async":
                MountFlags &= ~FuseMountFlags.Synchronous;
                break;
            case "noauto_cache":
                KernelCache = false;
                break;
            case "default_permissions" or "nonempty" or "hard_remove" or "use_ino" or "readdir_ino" or "noforget"
                or "intr" or "no_rofd_flush" or "parallel_direct_writes":
                // How it is anyway, or about what a tree of fixed names does not have.
                break;
            case "direct_io":
                DirectIo = true;
                break;
            case "kernel_cache" or "auto_cache":
                // auto_cache asks at each open whether the file looks as it did: size and time never move by themselves.
                KernelCache = true;
                break;
            case "ro":
                ReadOnly = true;
                break;
            case "nosuid":
                MountFlags |= FuseMountFlags.NoSuid;
                break;
            case "suid":
                MountFlags &= ~FuseMountFlags.NoSuid;
                break;
            case "nodev":
                MountFlags |= FuseMountFlags.NoDev;
                break;
            case "dev":
                MountFlags &= ~FuseMountFlags.NoDev;
                break;
            case "noexec":
                MountFlags |= FuseMountFlags.NoExec;
                break;
            case "exec":
                MountFlags &= ~FuseMountFlags.NoExec;
                break;
            case "noatime":
                MountFlags |= FuseMountFlags.NoAtime;
                break;
            case "atime":
                MountFlags &= ~FuseMountFlags.NoAtime;
                break;
            case "sync":
                MountFlags |= FuseMountFlags.Synchronous;
                break;
            case "dirsync":
                MountFlags |= FuseMountFlags.DirSync;
                break;
            default:
                throw Unknown(name);
        }
    }

    private void SetValue(string name, string value)
    {
        switch (name)
        {
            case "fsname":
                Source = value;
                break;
            case "subtype":
                Subtype = value;
                break;
            case "uid":
                UserId = Number(name, value);
                break;
            case "gid":
                GroupId = Number(name, value);
                break;
            case "umask":
                Umask = Octal(name, value);
                break;
            case "max_read":
                MaxReadBytes = Number(name, value);
                break;
            case "max_threads":
                Workers = (int)Math.Clamp(Number(name, value), 1, 64);
                break;
            case "attr_timeout":
                AttrTimeout = Seconds(name, value);
                break;
            case "entry_timeout":
                EntryTimeout = Seconds(name, value);
                break;
            case "negative_timeout" or "ac_attr_timeout":
                _ = Seconds(name, value);
                break;
            case "remember" or "intr_signal" or "max_idle_threads":
                _ = Number(name, value);
                break;
            default:
                throw Unknown(name);
        }
    }

    private static UsageException Unknown(string name) =>
        new($"unknown FUSE option '-o {name}' (see nbdfuse --fuse-help)");

    private static uint Number(string name, string value) =>
        uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out uint number)
            ? number
            : throw new UsageException($"-o {name} must be a number, not '{value}'");

    private static uint Octal(string name, string value) => Permissions.TryParse(value)
        ?? throw new UsageException($"-o {name} must be an octal number from 0 to 777, not '{value}'");

    private static TimeSpan Seconds(string name, string value) =>
        double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds)
        && seconds <= int.MaxValue
            ? TimeSpan.FromSeconds(seconds)
            : throw new UsageException($"-o {name} must be a number of seconds, not '{value}'");
}
