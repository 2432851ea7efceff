using Tmds.Linux;

namespace IntegrationTests;

public sealed class ReadOnlyTests : IntegrationTest
{
    [Fact]
    public void A_read_only_server_gives_a_read_only_file()
    {
        NbdServer server = Nbdkit("-r", "memory", "1M");

        CheckReadOnly(Mount(server.Uri));
    }

    [Theory]
    [InlineData("-r")]
    [InlineData("--readonly")]
    [InlineData("--read-only")]
    public void The_option_makes_the_file_read_only(string option)
    {
        NbdkitLog log = new(Folder.FileAt("nbdkit.log"));
        NbdServer server = Nbdkit("--filter=log", "memory", "1M", $"logfile={log.Path}");

        CheckReadOnly(Mount(new MountRequest { Options = [option], Source = [server.Uri] }));

        Assert.DoesNotContain(log.Commands, command => command.Name is "Write" or "Zero" or "Trim");
    }

    [Fact]
    public void A_qcow2_image_that_is_served_read_only_is_read()
    {
        string image = Folder.FileAt("file.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M");
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 0x77 0 1M", image);

        NbdFuseMount mount = Mount("[", "qemu-nbd", "-r", "-f", "qcow2", image, "]");

        Assert.Equal(Data.Filled(1 << 20, 0x77), File.ReadAllBytes(mount.File));
        CheckReadOnly(mount);
    }

    private static void CheckReadOnly(NbdFuseMount mount)
    {
        const UnixFileMode AnyWrite = UnixFileMode.UserWrite | UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;

        Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(mount.File) & AnyWrite);
        Assert.Equal(-LibC.EROFS, RawFile.OpenError(mount.File, LibC.O_RDWR));
        Assert.Equal(-LibC.EROFS, RawFile.OpenError(mount.File, LibC.O_WRONLY));
        Assert.Equal(1 << 20, File.ReadAllBytes(mount.File).Length);
        Assert.NotEqual(0, Tool.Try("truncate", "-s", "0", mount.File).ExitCode);
    }
}
