using System.Globalization;

namespace Fuse;

/// <summary>Processors as /sys/devices/system/cpu lists them: "0-3,8".</summary>
internal static class ProcessorSet
{
    private const string Folder = "/sys/devices/system/cpu/";

    /// <summary>All that the machine can ever have: the kernel makes a queue for each.</summary>
    internal static IReadOnlyList<int> Possible() => Parse(File.ReadAllText(Folder + "possible"));

    /// <summary>Those that run now.</summary>
    internal static IReadOnlyList<int> Online() => Parse(File.ReadAllText(Folder + "online"));

    /// <exception cref="FormatException">It is no such list.</exception>
    internal static IReadOnlyList<int> Parse(string list)
    {
        List<int> processors = [];
        foreach (string range in list.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            string[] ends = range.Split('-');
            int first = int.Parse(ends[0], NumberStyles.None, CultureInfo.InvariantCulture);
            int last = int.Parse(ends[^1], NumberStyles.None, CultureInfo.InvariantCulture);
            for (int processor = first; processor <= last; processor++)
            {
                processors.Add(processor);
            }
        }

        return processors;
    }
}
