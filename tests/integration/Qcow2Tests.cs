namespace IntegrationTests;

/// <summary>The main job: a qcow2 image as a raw file, through a captive qemu-nbd.</summary>
public sealed class Qcow2Tests : IntegrationTest
{
    [Fact]
    public void The_commands_that_people_copy_work_word_for_word()
    {
        string folder = Folder.Folder("dir");
        string image = NewImage("64M");
        BackgroundProcess nbdfuse = Launch(
            Path.Combine(folder, "file.raw"), "--socket-activation", "qemu-nbd", "-f", "qcow2", image);
        Wait.Until(() => nbdfuse.HasExited || MountTable.IsMounted(folder), "the image is mounted");

        string listing = Tool.Run("ls", "-l", folder + "/");

        Assert.Contains($"{64 << 20}", listing);
        Assert.Contains("file.raw", listing);
        MountTable.Unmount(folder);
        Assert.Equal(0, nbdfuse.WaitForExit());
    }

    [Theory]
    [InlineData("--socket-activation")]
    [InlineData("--systemd-socket-activation")]
    [InlineData("[")]
    public void What_is_written_is_in_the_image_once_nbdfuse_is_gone(string mode)
    {
        string image = NewImage("64M");
        string[] end = mode == "[" ? ["]"] : [];
        NbdFuseMount mount = Mount([mode, "qemu-nbd", "-f", "qcow2", image, .. end]);
        using (FileStream file = new(mount.File, FileMode.Open, FileAccess.ReadWrite))
        {
            file.Position = 5 << 20;
            file.Write(Data.Filled(1 << 20, 0xa5));
        }

        mount.Unmount();

        Assert.Empty(ProcessTable.Mentioning(image));
        Assert.Contains("qcow2", Tool.Run("qemu-img", "info", image));
        Assert.DoesNotContain(
            "Pattern verification failed",
            Tool.Run("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 0xa5 5M 1M", "-c", "read -P 0 0 5M", "-c", "read -P 0 6M 58M", image));
        Tool.Run("qemu-img", "check", image);
    }

    [Fact]
    public void An_ordinary_user_needs_no_root()
    {
        string image = NewImage("16M");
        File.SetUnixFileMode(image, (UnixFileMode)0b110_110_110);
        NbdFuseMount mount = Mount(new MountRequest
        {
            Source = ["--socket-activation", "qemu-nbd", "-f", "qcow2", image],
            AsOrdinaryUser = true,
        });
        string source = Folder.FileAt("source");
        File.WriteAllBytes(source, Data.Filled(1 << 20, 0x5a));

        string[] copy = Tool.AsOrdinaryUser("dd", $"if={source}", $"of={mount.File}", "bs=64K", "seek=16", "conv=notrunc,fsync");
        Tool.Run(copy[0], copy[1..]);
        string[] unmount = Tool.AsOrdinaryUser("fusermount3", "-u", mount.MountPath);
        Tool.Run(unmount[0], unmount[1..]);

        mount.CheckCleanEnd();
        Assert.DoesNotContain(
            "Pattern verification failed",
            Tool.Run("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 0x5a 1M 1M", "-c", "read -P 0 2M 14M", image));
    }

    private string NewImage(string size)
    {
        string image = Folder.FileAt("file.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, size);
        return image;
    }
}
