using System.Globalization;

namespace Fuse;

/// <summary>Reads from /proc whether a thread is to end.</summary>
internal static class ProcessSignals
{
    // HUP, INT, QUIT, KILL, TERM. Others (timers, a runtime's own) do not ask a program to end.
    private const ulong EndingSignals = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 8) | (1 << 14);

    // include/linux/sched.h
    private const uint Exiting = 0x00000004;

    /// <summary>Whether the thread is gone, is exiting, or has such a signal pending and not blocked.</summary>
    internal static bool IsEnding(uint threadId)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{threadId}/stat");
            return IsExiting(stat) || HasEndingSignal(File.ReadAllText($"/proc/{threadId}/status"));
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return true;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // ESRCH while reading, or a /proc that hides other users' processes.
            return false;
        }
    }

    /// <summary>The flags are the 9th field of proc(5)'s stat; the name before them may hold anything.</summary>
    internal static bool IsExiting(string stat)
    {
        string[] fields = stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return fields.Length > 6 && uint.TryParse(fields[6], CultureInfo.InvariantCulture, out uint flags)
            && (flags & Exiting) != 0;
    }

    internal static bool HasEndingSignal(string status)
    {
        ulong pending = Set(status, "SigPnd:") | Set(status, "ShdPnd:");
        return (pending & ~Set(status, "SigBlk:") & ~Set(status, "SigIgn:") & EndingSignals) != 0;
    }

    private static ulong Set(string status, string name)
    {
        int start = status.IndexOf(name, StringComparison.Ordinal);
        if (start < 0)
        {
            return 0;
        }

        ReadOnlySpan<char> line = status.AsSpan(start + name.Length);
        int end = line.IndexOf('\n');
        return ulong.TryParse(
            (end < 0 ? line : line[..end]).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong set)
            ? set
            : 0;
    }
}
