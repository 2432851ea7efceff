using System.Text;

namespace Fuse;

/// <summary>A line of /proc/self/mountinfo (proc(5)).</summary>
/// <param name="Device">"MAJOR:MINOR" of the mounted file system.</param>
/// <param name="Mountpoint">Absolute.</param>
/// <param name="Type">As "fuse.nbdfuse".</param>
internal readonly record struct MountTableEntry(string Device, string Mountpoint, string Type)
{
    private const int DeviceField = 2;
    private const int MountpointField = 4;
    private const int OptionalFields = 6;

    /// <summary>Reads a line; null when it is not one.</summary>
    internal static MountTableEntry? Parse(string line)
    {
        string[] fields = line.Split(' ');
        int separator = Array.IndexOf(fields, "-", Math.Min(OptionalFields, fields.Length));
        return separator < 0 || separator + 1 >= fields.Length
            ? null
            : new MountTableEntry(fields[DeviceField], Unescape(fields[MountpointField]), fields[separator + 1]);
    }

    /// <summary>Undoes the kernel's octal escapes of blank, tab, newline and backslash.</summary>
    private static string Unescape(string text)
    {
        const int EscapeLength = 4;
        if (!text.Contains('\\'))
        {
            return text;
        }

        StringBuilder result = new();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '\\' && i + EscapeLength <= text.Length)
            {
                ReadOnlySpan<char> octal = text.AsSpan(i + 1, EscapeLength - 1);
                _ = result.Append((char)(((octal[0] - '0') << 6) + ((octal[1] - '0') << 3) + octal[2] - '0'));
                i += EscapeLength - 1;
            }
            else
            {
                _ = result.Append(text[i]);
            }
        }

        return result.ToString();
    }
}

/// <summary>The mounts of our mount namespace. Reading them touches none of them.</summary>
internal static class MountTable
{
    private const string Path = "/proc/self/mountinfo";

    /// <summary>What is mounted at a path, the topmost last.</summary>
    internal static List<MountTableEntry> At(string mountpoint) =>
        [.. File.ReadLines(Path).Select(MountTableEntry.Parse).OfType<MountTableEntry>()
            .Where(entry => entry.Mountpoint == mountpoint)];
}
