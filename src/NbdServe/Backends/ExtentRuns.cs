using Nbd;

namespace NbdServe.Backends;

/// <summary>Extents of what is a row of runs.</summary>
internal static class ExtentRuns
{
    /// <summary>What reads as zeroes and is not there.</summary>
    internal const NbdExtentFlags Nothing = NbdExtentFlags.Hole | NbdExtentFlags.Zero;

    /// <summary>Adds the extents of a range.</summary>
    /// <param name="extents">Takes them.</param>
    /// <param name="offset">First byte of the range.</param>
    /// <param name="length">Bytes of the range.</param>
    /// <param name="runAt">What is at an offset, and where that changes.</param>
    internal static void AddRuns(
        this NbdExtentList extents, long offset, long length, Func<long, (NbdExtentFlags Flags, long End)> runAt)
    {
        long end = offset + length;
        bool isWanted = true;
        while (isWanted && offset < end)
        {
            (NbdExtentFlags flags, long runEnd) = runAt(offset);
            isWanted = extents.TryAdd(Math.Min(runEnd, end) - offset, flags);
            offset = runEnd;
        }
    }
}
