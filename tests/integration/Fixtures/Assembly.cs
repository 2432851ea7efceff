using System.Runtime.Versioning;

[assembly: SupportedOSPlatform("linux")]
[assembly: AssemblyFixture(typeof(NothingLeftBehind))]

namespace IntegrationTests.Fixtures;

/// <summary>Checks once, after all tests, that none of them left a mount or a temporary file outside its own folder.</summary>
public sealed class NothingLeftBehind : IDisposable
{
    private readonly HashSet<string> _before = Now();

    /// <inheritdoc/>
    public void Dispose()
    {
        Wait.Until(
            () => Now().IsSubsetOf(_before),
            $"nothing is left behind: {string.Join("; ", Now().Except(_before))}",
            TimeSpan.FromSeconds(5));
    }

    private static HashSet<string> Now() =>
    [
        .. MountTable.Read().Where(entry => entry.Type.StartsWith("fuse.nbdfuse", StringComparison.Ordinal)).Select(entry => entry.Path),
        .. Directory.EnumerateFileSystemEntries(Path.GetTempPath(), "*nbd*"),
    ];
}
