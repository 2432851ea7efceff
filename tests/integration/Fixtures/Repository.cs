namespace IntegrationTests.Fixtures;

/// <summary>Where things are: the clone's root and the program under test.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>The program under test: NBDFUSE_BIN, or what "make" builds.</summary>
    public static string NbdFuse { get; } = FindNbdFuse();

    private static string FindNbdFuse()
    {
        string path = Environment.GetEnvironmentVariable("NBDFUSE_BIN") ?? Path.Combine(Root, "out/nbdfuse");
        return File.Exists(path)
            ? Path.GetFullPath(path)
            : throw new FileNotFoundException($"the program under test, {path}, does not exist: run make");
    }

    private static string FindRoot()
    {
        DirectoryInfo? folder = new(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "NbdFuse.slnx")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new FileNotFoundException("no NbdFuse.slnx above the test program");
    }
}
