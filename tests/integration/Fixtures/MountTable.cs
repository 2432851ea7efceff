namespace IntegrationTests.Fixtures;

/// <summary>One mount, as a line of /proc/self/mountinfo has it (proc_pid_mountinfo(5)).</summary>
internal sealed record MountEntry(string Device, string Path, string Options, string Type, string Source, string SuperOptions);

/// <summary>The mounts of this system. Reading the table never touches a mount.</summary>
internal static class MountTable
{
    public static IReadOnlyList<MountEntry> Read() => [.. File.ReadLines("/proc/self/mountinfo").Select(Parse)];

    public static bool IsMounted(string path) => Read().Any(entry => entry.Path == path);

    /// <summary>The mounts at or below <paramref name="folder"/>.</summary>
    public static IReadOnlyList<MountEntry> Below(string folder) =>
        [.. Read().Where(entry => entry.Path == folder || entry.Path.StartsWith(folder + "/", StringComparison.Ordinal))];

    /// <summary>
    /// fusermount3 -u. It may be busy for a moment: a child that another test starts has our open files between its
    /// fork and its exec.
    /// </summary>
    public static void Unmount(string path)
    {
        string output = "";
        bool Done()
        {
            (int exitCode, output) = Tool.Try("fusermount3", "-u", path);
            return exitCode == 0 || !output.Contains("busy", StringComparison.Ordinal);
        }

        Wait.Until(Done, $"fusermount3 -u {path}");
        Assert.Equal("", output);
    }

    private static MountEntry Parse(string line)
    {
        string[] fields = line.Split(' ');
        int separator = Array.IndexOf(fields, "-");
        return new(
            fields[2],
            Unescape(fields[4]),
            fields[5],
            fields[separator + 1],
            Unescape(fields[separator + 2]),
            fields[separator + 3]);
    }

    private static string Unescape(string field) => field
        .Replace("\\040", " ", StringComparison.Ordinal)
        .Replace("\\011", "\t", StringComparison.Ordinal)
        .Replace("\\134", "\\", StringComparison.Ordinal);
}
