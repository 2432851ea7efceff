using System.Globalization;
using Tmds.Linux;

namespace IntegrationTests;

public sealed class PidFileTests : IntegrationTest
{
    [Theory]
    [InlineData("-P")]
    [InlineData("--pidfile")]
    [InlineData("--pid-file")]
    public void It_holds_the_process_id_and_a_newline_while_the_file_is_usable(string option)
    {
        NbdServer server = Nbdkit("pattern", "64K");
        string pidFile = Folder.FileAt("my.pid");
        string mountPoint = Folder.Folder("mnt");
        BackgroundProcess nbdfuse = Launch(option, pidFile, mountPoint, server.Uri);
        Wait.Until(() => nbdfuse.HasExited || (File.Exists(pidFile) && new FileInfo(pidFile).Length > 0), "the pidfile is there");

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(Path.Combine(mountPoint, "nbd")));
        Assert.Equal(nbdfuse.Id.ToString(CultureInfo.InvariantCulture) + "\n", File.ReadAllText(pidFile));

        MountTable.Unmount(mountPoint);
        Assert.Equal(0, nbdfuse.WaitForExit());
        Assert.False(File.Exists(pidFile), "it is still there");
    }

    [Fact]
    public void It_is_removed_at_SIGTERM()
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "1M").Uri);
        Assert.True(File.Exists(mount.PidFile), "it is not there");

        mount.Stop(LibC.SIGTERM);
    }

    [Fact]
    public void One_that_cannot_be_written_is_an_error_before_mounting()
    {
        NbdServer server = Nbdkit("memory", "1M");
        string mountPoint = Folder.Folder("mnt");
        string pidFile = Folder.FileAt("no-such-folder/pid");

        (int exitCode, string output) = RunNbdFuse("-P", pidFile, mountPoint, server.Uri);

        Assert.Equal(1, exitCode);
        Assert.Contains(pidFile, Assert.Single(output.TrimEnd().Split('\n')));
        Assert.False(MountTable.IsMounted(mountPoint));
    }

    [Fact]
    public void A_start_that_fails_leaves_none()
    {
        string pidFile = Folder.FileAt("pid");

        (int exitCode, _) = RunNbdFuse("-P", pidFile, Folder.Folder("mnt"), "--unix", Folder.FileAt("nobody.sock"));

        Assert.Equal(1, exitCode);
        Assert.False(File.Exists(pidFile), "it is there");
    }

    [Fact]
    public void A_folder_that_is_gone_by_the_end_is_no_failure()
    {
        string folder = Folder.Folder("run");
        string pidFile = Path.Combine(folder, "pid");
        string mountPoint = Folder.Folder("mnt");
        BackgroundProcess nbdfuse = Launch("-P", pidFile, mountPoint, Nbdkit("memory", "1M").Uri);
        Wait.Until(() => nbdfuse.HasExited || File.Exists(pidFile), "the pidfile is there");
        Directory.Delete(folder, recursive: true);

        MountTable.Unmount(mountPoint);

        Assert.Equal(0, nbdfuse.WaitForExit());
        Assert.Empty(nbdfuse.Log);
    }
}
