using Tmds.Linux;

namespace IntegrationTests;

/// <summary>-o: options of the mount that are seen from outside.</summary>
public sealed class MountOptionTests : IntegrationTest
{
    [Fact]
    public void Owner_group_and_umask_are_those_of_the_files()
    {
        NbdFuseMount mount = Mount(
            new MountRequest { Options = ["-o", "uid=12,gid=34,umask=027"], Source = [Nbdkit("memory", "1M").Uri] });

        Assert.Equal("640 12 34", Tool.Run("stat", "-c", "%a %u %g", mount.File).Trim());
        Assert.Equal("750 12 34", Tool.Run("stat", "-c", "%a %u %g", mount.MountPath).Trim());
    }

    [Fact]
    public void A_mount_can_be_read_only()
    {
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-o", "ro"], Source = [Nbdkit("memory", "1M").Uri] });

        Assert.Equal(-LibC.EROFS, RawFile.OpenError(mount.File, LibC.O_RDWR));
        Assert.Contains("ro", MountTable.Read().Last(entry => entry.Path == mount.MountPath).Options.Split(','));
        Assert.Equal(1 << 20, File.ReadAllBytes(mount.File).Length);
    }

    [Theory]
    [InlineData("nonempty")]
    [InlineData("noatime,noexec")]
    [InlineData("use_ino,hard_remove,noforget")]
    public void Others_are_accepted_over_a_folder_with_files(string options)
    {
        File.WriteAllText(Path.Combine(Folder.Folder("mnt"), "hidden"), "");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-o", options], Source = [Nbdkit("memory", "1M").Uri] });

        Assert.Equal([mount.File], Directory.GetFileSystemEntries(mount.MountPath));
    }

    /// <summary>Whether the kernel would offer it or not.</summary>
    [Theory]
    [InlineData("-s")]
    [InlineData("-C", "64")]
    [InlineData("-o", "auto_unmount,allow_other")]
    public void Why_requests_do_not_come_through_io_uring_is_one_verbose_line(params string[] options)
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "needs user_allow_other in /etc/fuse.conf otherwise");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-v", .. options], Source = [Nbdkit("memory", "1M").Uri] });
        mount.Unmount();

        Assert.Single(
            mount.Log.Split('\n'),
            line => line.StartsWith(
                "nbdfuse: requests come through /dev/fuse; FUSE over io_uring cannot be used: ", StringComparison.Ordinal));
    }

    [Fact]
    public void Auto_unmount_that_cannot_work_is_told()
    {
        NbdFuseMount mount = Mount(new MountRequest
        {
            AsOrdinaryUser = true,
            Options = ["-o", "auto_unmount"],
            Source = [NbdkitTcp("memory", "1M").Uri],
        });
        mount.Unmount();

        Assert.Equal("nbdfuse: -o auto_unmount has no effect for an ordinary user without -o allow_other\n", mount.Log);
    }

    [Fact]
    public void Auto_unmount_takes_the_mount_away_when_nbdfuse_is_killed()
    {
        Assert.SkipUnless(LibC.geteuid() == 0, "needs user_allow_other in /etc/fuse.conf otherwise");
        NbdFuseMount mount = Mount(
            new MountRequest { Options = ["-o", "allow_other,auto_unmount"], Source = [Nbdkit("memory", "1M").Uri] });

        mount.Process.Signal(LibC.SIGKILL);

        mount.Process.WaitForExit();
        Wait.Until(() => !mount.IsMounted, "it is unmounted");
    }
}
