using System.Text.Json;

namespace IntegrationTests.Programs;

/// <summary>qemu-img on the mount's file, as on any raw image.</summary>
public sealed class QemuImgTests : ProgramTest
{
    private const int SizeBytes = 16 << 20;

    [Theory]
    [MemberData(nameof(Servers))]
    public void The_disk_is_a_raw_image_to_qemu_img(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Patchwork(SizeBytes));
        string converted = Folder.FileAt("converted.qcow2");

        string info = Tool.Run("qemu-img", "info", "-f", "raw", disks.Disk);
        Tool.Run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disks.Disk, converted);

        Assert.Contains($"({SizeBytes} bytes)", info);
        Tool.Run("qemu-img", "check", converted);
        Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", disks.Disk, converted);
        Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "raw", disks.Local, disks.Disk);
        disks.CheckEqualToTheEnd();
    }

    /// <summary>What the map calls zeroes are zeroes, and it covers the whole disk.</summary>
    [Theory]
    [MemberData(nameof(Servers))]
    public void The_map_of_the_disk_is_true(string server)
    {
        byte[] content = Patchwork(SizeBytes);
        DiskPair disks = Disks(server, SizeBytes, content);

        using JsonDocument map = JsonDocument.Parse(Tool.Run("qemu-img", "map", "--output=json", "-f", "raw", disks.Disk));

        long next = 0;
        foreach (JsonElement extent in map.RootElement.EnumerateArray())
        {
            int start = extent.GetProperty("start").GetInt32();
            int length = extent.GetProperty("length").GetInt32();
            Assert.Equal(next, start);
            if (extent.GetProperty("zero").GetBoolean())
            {
                Assert.Equal(-1, content.AsSpan(start, length).IndexOfAnyExcept((byte)0));
            }

            next = start + length;
        }

        Assert.Equal(SizeBytes, next);
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void A_qcow2_is_converted_into_the_disk(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Data.Random(SizeBytes, 6));
        string source = Folder.FileAt("source.raw");
        string image = Folder.FileAt("source.qcow2");
        File.WriteAllBytes(source, Patchwork(SizeBytes));
        Tool.Run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, image);

        disks.Both(disk => Tool.Run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", image, disk));

        Tool.Run("cmp", source, disks.Disk);
        disks.CheckEqualToTheEnd();
    }

    /// <summary>An image format inside the disk: qemu finds, checks, changes and repairs it there.</summary>
    [Theory]
    [InlineData("nbdkit file")]
    [InlineData("nbdkit memory")]
    [InlineData("nbdserve file")]
    public void A_qcow2_inside_the_disk_is_checked_through_the_mount(string server)
    {
        string source = Folder.FileAt("source.raw");
        string image = Folder.FileAt("source.qcow2");
        File.WriteAllBytes(source, Patchwork(SizeBytes));
        Tool.Run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, image);
        byte[] content = new byte[2 * SizeBytes];
        File.ReadAllBytes(image).CopyTo(content, 0);
        DiskPair disks = Disks(server, content.Length, content);

        Assert.Contains("file format: qcow2", Tool.Run("qemu-img", "info", disks.Disk));
        disks.Both(disk =>
        {
            Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1000000 3000000", "-c", "write -z 8M 1M", "-c", "discard 12M 1M", disk);
            Tool.Run("qemu-img", "check", "-f", "qcow2", disk);
        });

        Tool.Run("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", disks.Local, disks.Disk);
        disks.CheckEqualToTheEnd();
    }
}
