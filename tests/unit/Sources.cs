namespace UnitTests;

/// <summary>The clone that the tests were built from: a build server's binaries do not say where it is, but lie beneath it.</summary>
internal static class Sources
{
    /// <summary>The path of a file or folder of the clone.</summary>
    internal static string At(string path)
    {
        DirectoryInfo? root = new(AppContext.BaseDirectory);
        while (root is not null && !Path.Exists(Path.Combine(root.FullName, path)))
        {
            root = root.Parent;
        }

        return Path.Combine(
            root?.FullName ?? throw new FileNotFoundException($"no {path} above {AppContext.BaseDirectory}"), path);
    }
}
