using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>
/// An own folder for one test. Its name is in the command line of all that the test starts, which is how
/// <see cref="CheckNothingIsLeft"/> finds processes, mounts and files that stayed behind.
/// </summary>
internal sealed class TestDirectory : IDisposable
{
    public TestDirectory()
    {
        Path = Directory.CreateTempSubdirectory("nbdfuse-test-").FullName;
        // The ordinary user's daemon must reach and write it.
        File.SetUnixFileMode(Path, (UnixFileMode)0x1ff);
        Temporary = Folder("temporary");
        File.SetUnixFileMode(Temporary, (UnixFileMode)0x1ff);
    }

    public string Path { get; }

    /// <summary>TMPDIR of the programs under test: empty when they are gone. (A killed server may leave files; its TMPDIR is elsewhere.)</summary>
    public string Temporary { get; }

    public string FileAt(string name) => System.IO.Path.Combine(Path, name);

    public string Folder(string name) => Directory.CreateDirectory(FileAt(name)).FullName;

    /// <summary>Throws when a mount, a process or a temporary file of the test is still there.</summary>
    public void CheckNothingIsLeft()
    {
        Wait.Until(
            () => ProcessTable.Mentioning(Path).Count == 0,
            $"all processes of the test are gone: {string.Join("; ", ProcessTable.Mentioning(Path).Values)}",
            TimeSpan.FromSeconds(5));
        IReadOnlyList<MountEntry> mounts = MountTable.Below(Path);
        if (mounts.Count > 0)
        {
            throw new InvalidOperationException($"mounts left behind: {string.Join("; ", mounts)}");
        }

        string[] files = Directory.GetFileSystemEntries(Temporary);
        if (files.Length > 0)
        {
            throw new InvalidOperationException($"temporary files left behind: {string.Join("; ", files)}");
        }
    }

    /// <summary>Ends and removes whatever is left.</summary>
    public void Dispose()
    {
        foreach (int id in ProcessTable.Mentioning(Path).Keys)
        {
            _ = LibC.kill(id, LibC.SIGCONT);
            _ = LibC.kill(id, LibC.SIGKILL);
        }

        Wait.Try(() => ProcessTable.Mentioning(Path).Count == 0, TimeSpan.FromSeconds(5));
        foreach (MountEntry mount in MountTable.Below(Path).Reverse())
        {
            Tool.Try("fusermount3", "-u", "-z", mount.Path);
        }

        Directory.Delete(Path, recursive: true);
    }
}
