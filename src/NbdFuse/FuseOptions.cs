using System.Globalization;
using Fuse;

namespace NbdFuse;

/// <summary>What the -o options ask for.</summary>
internal sealed record FuseOptions
{
    /// <summary>Attributes and names do not change behind the kernel's back, so they stay known for long.</summary>
    internal static readonly TimeSpan DefaultCacheTimeout = TimeSpan.FromHours(1);

    internal bool AllowOther { get; private set; }

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

    internal TimeSpan AttrTimeout { get; private set; } = DefaultCacheTimeout;

    internal TimeSpan EntryTimeout { get; private set; } = DefaultCacheTimeout;

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

        return options;
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
            case "auto_unmount":
                AutoUnmount = true;
                break;
            case "clone_fd":
                CloneDevice = true;
                break;
            case "debug":
                Debug = true;
                break;
            case "default_permissions" or "nonempty" or "rw" or "async" or "noauto_cache":
                break;
            case "direct_io":
                DirectIo = true;
                break;
            case "kernel_cache":
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
            case "allow_root" or "auto_cache":
                throw new UsageException($"-o {name} is not supported yet");
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

    private static uint Octal(string name, string value)
    {
        try
        {
            return Convert.ToUInt32(value, 8) & 0x1ff;
        }
        catch (Exception exception) when (exception is FormatException or OverflowException or ArgumentException)
        {
            throw new UsageException($"-o {name} must be an octal number, not '{value}'");
        }
    }

    private static TimeSpan Seconds(string name, string value) =>
        double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds)
        && seconds <= int.MaxValue
            ? TimeSpan.FromSeconds(seconds)
            : throw new UsageException($"-o {name} must be a number of seconds, not '{value}'");
}
