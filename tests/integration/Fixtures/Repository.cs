namespace IntegrationTests.Fixtures;

/// <summary>Where things are: the clone's root and the program under test.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot();

    /// <summary>The program under test: NBDFUSE_BIN, or what "make" builds.</summary>
    public static string NbdFuse { get; } = Find("NBDFUSE_BIN", "out/nbdfuse");

    /// <summary>The other program under test: NBDSERVE_BIN, or what "make" builds.</summary>
    public static string NbdServe { get; } = Find("NBDSERVE_BIN", "out/nbdserve");

    private static string Find(string variable, string built)
    {
        string path = Environment.GetEnvironmentVariable(variable) ?? Path.Combine(Root, built);
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
