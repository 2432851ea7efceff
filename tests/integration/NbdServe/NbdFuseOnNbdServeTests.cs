namespace IntegrationTests.NbdServeTests;

/// <summary>Our server under the two nbdfuse programs.</summary>
public sealed class NbdFuseOnNbdServeTests : IntegrationTest
{
    [Theory]
    [InlineData("[")]
    [InlineData("--socket-activation")]
    [InlineData("--command")]
    public void Our_nbdfuse_starts_it(string mode)
    {
        string[] server = mode == "--command"
            ? [Repository.NbdServe, "-s", "memory", "1M"]
            : [Repository.NbdServe, "memory", "1M"];
        NbdFuseMount mount = Mount([mode, .. server, .. mode == "[" ? (string[])["]"] : []]);
        byte[] data = Data.Random(1 << 20);

        // The size of the file cannot change, so it is overwritten.
        using (FileStream file = new(mount.File, FileMode.Open, FileAccess.Write))
        {
            file.Write(data);
        }

        Assert.Equal(data, File.ReadAllBytes(mount.File));
    }

    [Theory]
    [InlineData("[")]
    [InlineData("--command")]
    public void The_c_nbdfuse_starts_it(string mode)
    {
        string folder = Folder.Folder("mnt");
        string disk = Path.Combine(folder, "disk");
        string pidFile = Folder.FileAt("pid");
        string[] server = mode == "--command"
            ? [mode, Repository.NbdServe, "-s", "memory", "1M"]
            : [mode, Repository.NbdServe, "memory", "1M", "]"];
        BackgroundProcess nbdfuse = Background("/usr/bin/nbdfuse", ["-P", pidFile, disk, .. server]);
        Wait.Until(() => File.Exists(pidFile) || nbdfuse.HasExited, $"the C nbdfuse is ready: {nbdfuse}");
        byte[] data = Data.Random(1 << 20);

        using (FileStream file = new(disk, FileMode.Open, FileAccess.Write))
        {
            file.Write(data);
        }

        Assert.Equal(data, File.ReadAllBytes(disk));
        MountTable.Unmount(folder);
        nbdfuse.WaitForExit();
    }

    [Fact]
    public void A_file_system_of_zeroes_and_holes_reads_back()
    {
        NbdFuseMount mount = Mount("[", Repository.NbdServe, "memory", "4M", "]");
        File.WriteAllBytes(Folder.FileAt("source"), Data.Random(4 << 20));
        Tool.Run("cp", Folder.FileAt("source"), mount.File);

        Tool.Run("fallocate", "--punch-hole", "-o", "1048576", "-l", "1048576", mount.File);

        Assert.Equal(new byte[1 << 20], File.ReadAllBytes(mount.File)[(1 << 20)..(2 << 20)]);
    }
}
