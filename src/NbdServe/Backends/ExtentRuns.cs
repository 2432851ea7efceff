using Nbd;

namespace NbdServe.Backends;

/// <summary>Extents of what is a row of data and holes.</summary>
internal static class ExtentRuns
{
    /// <summary>Adds the extents of a range.</summary>
    /// <param name="extents">Takes them.</param>
    /// <param name="offset">First byte of the range.</param>
    /// <param name="length">Bytes of the range.</param>
    /// <param name="runAt">Whether an offset is in data, and where that changes.</param>
    internal static void AddRuns(
        this NbdExtentList extents, long offset, long length, Func<long, (bool IsData, long End)> runAt)
    {
        long end = offset + length;
        bool isWanted = true;
        while (isWanted && offset < end)
        {
            (bool isData, long runEnd) = runAt(offset);
            isWanted = extents.TryAdd(
                Math.Min(runEnd, end) - offset,
                isData ? NbdExtentFlags.Data : NbdExtentFlags.Hole | NbdExtentFlags.Zero);
            offset = runEnd;
        }
    }
}
