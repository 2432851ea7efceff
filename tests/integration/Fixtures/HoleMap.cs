using System.Globalization;
using System.Text.Json;

namespace IntegrationTests.Fixtures;

/// <summary>Where a file has data: extents in order, neighbours apart.</summary>
internal static class HoleMap
{
    /// <summary>As lseek(2) tells.</summary>
    /// <param name="file">Any file.</param>
    /// <param name="exactly">Extents that touch are left apart.</param>
    public static (long Start, long End)[] Walk(RawFile file, bool exactly = false)
    {
        List<(long Start, long End)> extents = [];
        for (long position = 0; file.Seek(position, RawFile.SeekData) is >= 0 and long start;)
        {
            position = file.Seek(start, RawFile.SeekHole);
            Assert.True(position > start, $"after the data at {start} comes a hole at {position}");
            Add(extents, start, position, exactly);
        }

        return [.. extents];
    }

    /// <summary>As nbdinfo tells: all that does not read as zeroes.</summary>
    public static (long Start, long End)[] OfServer(string uri)
    {
        List<(long Start, long End)> extents = [];
        using JsonDocument map = JsonDocument.Parse(Tool.Run("nbdinfo", "--map", "--json", uri));
        foreach (JsonElement extent in map.RootElement.EnumerateArray())
        {
            if ((extent.GetProperty("type").GetInt64() & 2) == 0)
            {
                long start = extent.GetProperty("offset").GetInt64();
                Add(extents, start, start + extent.GetProperty("length").GetInt64(), false);
            }
        }

        return [.. extents];
    }

    /// <summary>What stat(2) tells as allocated.</summary>
    public static long AllocatedBytes(string path) =>
        512 * long.Parse(Tool.Run("stat", "-c", "%b", path), CultureInfo.InvariantCulture);

    private static void Add(List<(long Start, long End)> extents, long start, long end, bool exactly)
    {
        if (!exactly && extents.Count > 0 && extents[^1].End == start)
        {
            extents[^1] = (extents[^1].Start, end);
        }
        else
        {
            extents.Add((start, end));
        }
    }
}
