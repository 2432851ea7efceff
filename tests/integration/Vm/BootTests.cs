namespace IntegrationTests.Vm;

/// <summary>Virtual machines that boot from the mount's file.</summary>
[Trait("Speed", "Slow")]
public sealed class BootTests : IntegrationTest
{
    [Theory]
    [InlineData("none")]
    [InlineData("writeback")]
    public void A_machine_boots_from_a_qcow2_shown_as_a_raw_file_and_writes_to_it(string cache)
    {
        byte[] data = Data.Random(3_000_000);
        string image = NewImage();
        BootableDisk bootable = new(Folder);
        NbdFuseMount mount = Mount(Request("--socket-activation", "qemu-nbd", "-f", "qcow2", image));
        bootable.Install(mount.File, data);

        string serial = VirtualMachine.Run($"file={mount.File},format=raw,if=virtio,cache={cache}");

        Assert.Contains("HELLO-FROM-THE-HOST", serial);
        Assert.Contains("GUEST-IS-DONE", serial);
        mount.Unmount();
        CheckGuestWrote(image, bootable.DataPartition, data);
    }

    [Fact]
    public void A_machine_boots_from_a_read_only_mount_with_a_snapshot()
    {
        string image = NewImage();
        BootableDisk bootable = new(Folder);
        NbdFuseMount mount = Mount(Request("--socket-activation", "qemu-nbd", "-f", "qcow2", image));
        bootable.Install(mount.File, Data.Random(100_000));
        mount.Unmount();
        string before = Tool.Run("sha256sum", image);
        NbdFuseMount readOnly = Mount(
            Request("--socket-activation", "qemu-nbd", "-r", "-f", "qcow2", image) with { Options = ["-r"] });

        string serial = VirtualMachine.Run($"file={readOnly.File},format=raw,if=virtio,snapshot=on");

        Assert.Contains("GUEST-IS-DONE", serial);
        readOnly.Unmount();
        Assert.Equal(before, Tool.Run("sha256sum", image));
    }

    /// <summary>A compressed image on a web server: nothing but what the machine reads is fetched.</summary>
    [Fact]
    public void A_machine_boots_from_a_compressed_image_on_a_web_server()
    {
        string raw = Folder.FileAt("disk.raw");
        Tool.Run("truncate", "-s", $"{BootableDisk.SizeBytes}", raw);
        new BootableDisk(Folder).Install(raw, Data.Random(100_000));
        string site = Folder.Folder("site");
        Tool.Run("sh", "-ec", $"xz -0 -T2 --block-size=1MiB -c {raw} > {site}/disk.raw.xz");
        using WebServer web = new(Background, site);
        NbdFuseMount mount = Mount(
            Request("[", "nbdkit", "-r", "--filter=xz", "curl", $"{web.Address}/disk.raw.xz", "protocols=http", "]"));

        string kind = Tool.Run("file", mount.File);
        string serial = VirtualMachine.Run($"file={mount.File},format=raw,if=virtio,snapshot=on");

        Assert.Contains("DOS/MBR boot sector", kind);
        Assert.Contains("GUEST-IS-DONE", serial);
        Tool.Run("cmp", raw, mount.File);
        mount.Unmount();
    }

    /// <summary>The program that the machine runs is the name of the export.</summary>
    [Fact]
    public void A_machine_boots_from_the_name_of_an_export()
    {
        ExampleServer example = new(Background, "base64-server.cs", Folder.FileAt("example.sock"));
        string name = Uri.EscapeDataString(Convert.ToBase64String(BootSector.Printing("BOOTED-FROM-AN-EXPORT-NAME")));
        NbdFuseMount mount = Mount(Request(example.UriOf(name)) with { Options = ["-r"] });
        BackgroundProcess machine = Background(
            "qemu-system-x86_64", VirtualMachine.Arguments($"file={mount.File},format=raw,if=ide,snapshot=on"));

        Wait.Until(
            () => machine.HasExited || machine.Log.Contains("BOOTED-FROM-AN-EXPORT-NAME", StringComparison.Ordinal),
            "the boot sector has printed its text",
            TimeSpan.FromMinutes(2));

        Assert.Contains("BOOTED-FROM-AN-EXPORT-NAME", machine.Log);
        machine.Dispose();
        mount.Unmount();
        example.Stop();
    }

    private void CheckGuestWrote(string image, string dataPartition, byte[] data)
    {
        string raw = Folder.FileAt("result.raw");
        string copy = Folder.FileAt("copy.bin");
        Tool.Run("qemu-img", "check", image);
        Tool.Run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw);
        Tool.Run("e2fsck", "-f", "-n", raw + dataPartition);
        Assert.Contains("written by the guest", Tool.Run("debugfs", "-R", "cat guest.txt", raw + dataPartition));
        Tool.Run("debugfs", "-R", $"dump copy.bin {copy}", raw + dataPartition);
        Assert.Equal(data, File.ReadAllBytes(copy));
    }

    private string NewImage()
    {
        string image = Folder.FileAt("disk.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, $"{BootableDisk.SizeBytes}");
        return image;
    }

    private static MountRequest Request(params string[] source) =>
        new() { MountPoint = "mnt/disk.raw", Source = source, Limit = TimeSpan.FromMinutes(8) };
}
