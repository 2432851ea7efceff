using System.Text;

namespace IntegrationTests.Fixtures;

/// <summary>The processes of this system, from /proc.</summary>
internal static class ProcessTable
{
    /// <summary>Command lines of the live processes (no zombies) that have <paramref name="text"/> in an argument.</summary>
    public static IReadOnlyDictionary<int, string> Mentioning(string text)
    {
        Dictionary<int, string> found = [];
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), out int id) && id != Environment.ProcessId)
            {
                string commandLine = CommandLine(id);
                if (commandLine.Contains(text, StringComparison.Ordinal))
                {
                    found[id] = commandLine;
                }
            }
        }

        return found;
    }

    /// <summary>The ids of the live children of a process.</summary>
    public static IReadOnlyList<int> ChildrenOf(int parent) =>
        [.. Directory.EnumerateDirectories("/proc")
            .Select(folder => int.TryParse(Path.GetFileName(folder), out int id) ? id : 0)
            .Where(id => id != 0 && CommandLine(id).Length > 0 && Stat(id) is [_, string parentId, ..]
                && parentId == $"{parent}")];

    /// <summary>Whether a process exists and is not a zombie.</summary>
    public static bool IsAlive(int id) => Stat(id) is [string state, ..] && state is not ("Z" or "X");

    /// <summary>Whether none of its threads runs any more.</summary>
    public static bool IsStopped(int id) => Directory.GetDirectories($"/proc/{id}/task")
        .All(thread => ReadOrEmpty($"{thread}/stat").Split(") ")[^1].StartsWith('T'));

    /// <summary>What the kernel waits for on behalf of the process; "0" when it does not wait.</summary>
    public static string WaitChannel(int id) => ReadOrEmpty($"/proc/{id}/wchan");

    /// <summary>Whether the process waits for a FUSE daemon's answer.</summary>
    public static bool WaitsForFuse(int id) => IsOfFuse(WaitChannel(id));

    /// <summary>How many threads of the process do.</summary>
    public static int ThreadsThatWaitForFuse(int id) =>
        Directory.GetDirectories($"/proc/{id}/task").Count(thread => IsOfFuse(ReadOrEmpty($"{thread}/wchan")));

    /// <summary>How often the process went to sleep so far.</summary>
    public static string Sleeps(int id) =>
        Array.Find(ReadOrEmpty($"/proc/{id}/status").Split('\n'), line => line.StartsWith("voluntary", StringComparison.Ordinal)) ?? "";

    /// <summary>What the file descriptors of the process are.</summary>
    public static IReadOnlyList<string> OpenFiles(int id) =>
        [.. Directory.EnumerateFileSystemEntries($"/proc/{id}/fd")
            .Select(path => File.ResolveLinkTarget(path, returnFinalTarget: false)?.FullName ?? "")];

    private static bool IsOfFuse(string channel) =>
        channel.Contains("request_wait", StringComparison.Ordinal)
        || channel.Contains("folio_wait", StringComparison.Ordinal)
        || channel.Contains("fuse", StringComparison.Ordinal);

    private static string CommandLine(int id) => ReadOrEmpty($"/proc/{id}/cmdline").Replace('\0', ' ');

    // The fields of /proc/PID/stat from the state on; the name before it may hold anything.
    private static string[] Stat(int id)
    {
        string text = ReadOrEmpty($"/proc/{id}/stat");
        int end = text.LastIndexOf(')');
        return end < 0 ? [] : text[(end + 2)..].Split(' ');
    }

    private static string ReadOrEmpty(string path)
    {
        try
        {
            return Encoding.UTF8.GetString(File.ReadAllBytes(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
