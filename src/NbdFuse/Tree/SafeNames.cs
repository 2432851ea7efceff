using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace NbdFuse;

/// <summary>
/// Where exports stand in a directory. An export's name can be any text of up to 4096 bytes; "/" in it makes
/// directories, and what cannot be a file's name is written otherwise.
/// </summary>
internal static class SafeNames
{
    /// <summary>Name of the file of the export that has none: the server's default export.</summary>
    internal const string DefaultExport = "default";

    private const int MaximumDepth = 32;
    private const int MaximumNameBytes = 255;

    /// <summary>Chooses a path for each export. No path is another one's directory, and none is there twice.</summary>
    /// <param name="exportNames">The names, all different. Those that come first keep theirs.</param>
    internal static Dictionary<string, string[]> Choose(IReadOnlyList<string> exportNames)
    {
        Dictionary<string, string[]> paths = exportNames.ToDictionary(name => name, Split, StringComparer.Ordinal);
        HashSet<string> directories = new(StringComparer.Ordinal);
        foreach (string[] path in paths.Values)
        {
            for (int depth = 1; depth < path.Length; depth++)
            {
                _ = directories.Add(string.Join('/', path[..depth]));
            }
        }

        HashSet<string> files = new(StringComparer.Ordinal);
        foreach (string exportName in exportNames)
        {
            string[] path = paths[exportName];
            string name = path[^1];
            for (int i = 2; directories.Contains(string.Join('/', path)) || !files.Add(string.Join('/', path)); i++)
            {
                path[^1] = Shortened(name, string.Create(CultureInfo.InvariantCulture, $"~{i}"));
            }
        }

        return paths;
    }

    private static string[] Split(string exportName)
    {
        string[] parts = exportName.Split('/', StringSplitOptions.RemoveEmptyEntries);
        return parts.Length == 0 ? [DefaultExport]
            : parts.Length > MaximumDepth ? [.. parts[..(MaximumDepth - 1)].Select(Name), Name(string.Join('|', parts[(MaximumDepth - 1)..]))]
            : [.. parts.Select(Name)];
    }

    private static string Name(string part)
    {
        StringBuilder name = new();
        foreach (char character in part)
        {
            bool isSafe = !char.IsControl(character) && !char.IsSurrogate(character)
                && (character != '.' || part is not ("." or ".."));
            _ = isSafe
                ? name.Append(character)
                : name.Append(CultureInfo.InvariantCulture, $"%{(int)character:X2}");
        }

        return Encoding.UTF8.GetByteCount(name.ToString()) <= MaximumNameBytes
            ? name.ToString()
            : Shortened(name.ToString(), "~" + Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(part)))[..16]);
    }

    /// <summary>A name with an ending, within the limit of a name.</summary>
    private static string Shortened(string name, string ending)
    {
        while (Encoding.UTF8.GetByteCount(name) + ending.Length > MaximumNameBytes)
        {
            name = name[..^1];
        }

        return name + ending;
    }
}
