using Tmds.Linux;

namespace IntegrationTests;

public abstract class MountPointTests : IntegrationTest
{
    [Fact]
    public void In_a_folder_the_file_is_called_nbd()
    {
        NbdServer server = Nbdkit("pattern", "64K");
        Folder.Folder("mnt");

        NbdFuseMount mount = Mount(new MountRequest { MountPoint = "mnt", Source = [server.Uri] });

        Assert.Equal([Folder.FileAt("mnt/nbd")], Directory.GetFileSystemEntries(mount.MountPath));
        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void The_file_has_the_name_that_is_asked_for()
    {
        NbdServer server = Nbdkit("pattern", "64K");

        NbdFuseMount mount = Mount(new MountRequest { MountPoint = "mnt/my disk.raw", Source = [server.Uri] });

        Assert.Equal([Folder.FileAt("mnt/my disk.raw")], Directory.GetFileSystemEntries(mount.MountPath));
        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void An_existing_file_is_mounted_over()
    {
        NbdServer server = Nbdkit("pattern", "64K");
        File.WriteAllText(Folder.FileAt("disk"), "what was there before");

        NbdFuseMount mount = Mount(new MountRequest { MountPoint = "disk", Source = [server.Uri] });

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
        mount.Unmount();
        Assert.Equal("what was there before", File.ReadAllText(Folder.FileAt("disk")));
    }

    [Fact]
    public void A_mounted_over_file_is_written()
    {
        NbdServer server = Nbdkit("memory", "1M");
        File.WriteAllText(Folder.FileAt("disk"), "");
        NbdFuseMount mount = Mount(new MountRequest { MountPoint = "disk", Source = [server.Uri] });
        byte[] data = Data.Random(1 << 20);

        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        Assert.Equal(data.Length, file.Write(0, data));
        Assert.Equal(0, file.Fsync());

        Tool.Run("nbdcopy", server.Uri, Folder.FileAt("copy"));
        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("copy")));
    }

    [Fact]
    public void A_relative_mountpoint_is_relative_to_the_current_folder()
    {
        NbdServer server = Nbdkit("pattern", "64K");
        string folder = Folder.Folder("mnt");
        BackgroundProcess nbdfuse = Background(
            "bash", "-c", "cd \"$1\" && exec \"$2\" mnt/disk \"$3\"", "bash", Folder.Path, Repository.NbdFuse, server.Uri);
        Wait.Until(() => nbdfuse.HasExited || MountTable.IsMounted(folder), "it is mounted");

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(Path.Combine(folder, "disk")));

        MountTable.Unmount(folder);
        Assert.Equal(0, nbdfuse.WaitForExit());
    }

    [Fact]
    public void The_corpse_of_a_killed_nbdfuse_is_cleaned_away_by_the_next()
    {
        NbdServer server = Nbdkit("pattern", "64K");
        NbdFuseMount dead = Mount(server.Uri);
        dead.Process.Signal(LibC.SIGKILL);
        dead.Process.WaitForExit();
        Assert.True(dead.IsMounted);

        NbdFuseMount mount = Mount(server.Uri);

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
        mount.Unmount();
        Assert.False(MountTable.IsMounted(mount.MountPath));
    }

    [Fact]
    public void The_corpse_over_a_file_is_cleaned_away_too()
    {
        NbdServer server = Nbdkit("pattern", "64K");
        File.WriteAllText(Folder.FileAt("disk"), "");
        NbdFuseMount dead = Mount(new MountRequest { MountPoint = "disk", Source = [server.Uri] });
        dead.Process.Signal(LibC.SIGKILL);
        dead.Process.WaitForExit();

        // File.Exists is false for a corpse, so the fixture is told what to expect.
        BackgroundProcess nbdfuse = Launch("-P", Folder.FileAt("pid"), Folder.FileAt("disk"), server.Uri);
        FileInfo pidFile = new(Folder.FileAt("pid"));
        Wait.Until(
            () =>
            {
                pidFile.Refresh();
                return nbdfuse.HasExited || (pidFile.Exists && pidFile.Length > 0);
            },
            "it is mounted");

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(Folder.FileAt("disk")));
        MountTable.Unmount(Folder.FileAt("disk"));
        Assert.Equal(0, nbdfuse.WaitForExit());
        Assert.False(MountTable.IsMounted(Folder.FileAt("disk")));
    }
}

public sealed class MountPointOverDeviceTests : MountPointTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class MountPointOverUringTests : MountPointTests
{
    private protected override string Transport => Transports.Uring;
}
