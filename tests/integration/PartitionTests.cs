using System.Globalization;
using System.Text.Json;
using Tmds.Linux;

namespace IntegrationTests;

/// <summary>--partitions, with tables that sfdisk writes through the mount.</summary>
public sealed class PartitionTests : IntegrationTest
{
    private const string Gpt = "label: gpt\nsize=4MiB\nsize=8MiB\nsize=1MiB\n";
    private const string Mbr = "label: dos\ndisk1 : size=4MiB\ndisk2 : size=20MiB, type=5\ndisk5 : size=3MiB\ndisk6 : size=5MiB\n";

    [Theory]
    [InlineData(Gpt)]
    [InlineData(Mbr)]
    public void Partitions_are_the_ranges_that_sfdisk_sees(string script)
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = MountPartitioned(server.Uri);
        Assert.Equal(["disk"], Names(mount));

        Partition(mount.File, script);

        (string Name, long Start, long Length)[] expected = Sfdisk(mount.File);
        Assert.Equal(["disk", .. expected.Select(partition => partition.Name)], Names(mount));
        using RawFile disk = RawFile.Open(mount.File, LibC.O_RDWR);
        foreach ((string name, long start, long length) in expected)
        {
            string path = Path.Combine(mount.MountPath, name);
            Assert.Equal(length, new FileInfo(path).Length);
            using RawFile partition = RawFile.Open(path, LibC.O_RDWR);

            // What is written through one file is read through the other, whatever was read before.
            byte[] data = Data.Random(70_001);
            _ = disk.Read(start, data.Length);
            Assert.Equal(data.Length, partition.Write(0, data));
            Assert.Equal(data, disk.Read(start, data.Length));
            Assert.Equal(data.Length, disk.Write(start + 100_000, data));
            Assert.Equal(data, partition.Read(100_000, data.Length));

            // Nothing goes beyond the end.
            Assert.Equal(512, partition.Write(length - 512, data));
            Assert.Equal(data[..512], partition.Read(length - 512, 4096));
            Assert.Equal(-LibC.ENOSPC, partition.Write(length, data));
            Assert.Empty(partition.Read(length, 1));
        }
    }

    [Fact]
    public void A_file_system_is_made_in_a_partition_and_found_through_the_disk()
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = MountPartitioned(server.Uri);
        Partition(mount.File, "label: gpt\nsize=32MiB\n");
        string partition = mount.File + ".p1";

        Tool.Run("mkfs.ext4", "-q", "-L", "in-a-partition", partition);

        Tool.Run("e2fsck", "-fn", partition);
        string offset = Sfdisk(mount.File)[0].Start.ToString(CultureInfo.InvariantCulture);
        Assert.Contains("in-a-partition", Tool.Run("blkid", "-p", "-O", offset, mount.File), StringComparison.Ordinal);
    }

    [Fact]
    public void Zeroes_and_holes_stay_in_their_partition()
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = MountPartitioned(server.Uri);
        Partition(mount.File, "label: dos\nsize=1MiB\nsize=1MiB\n");
        long start = Sfdisk(mount.File)[0].Start;
        using RawFile disk = RawFile.Open(mount.File, LibC.O_RDWR);
        byte[] data = Data.Random(3 << 20);
        Assert.Equal(data.Length, disk.Write(start, data));
        using RawFile partition = RawFile.Open(mount.File + ".p1", LibC.O_RDWR);

        Assert.Equal(0, partition.Fallocate(3, (1 << 20) - 4096, 1 << 20));

        Array.Clear(data, (1 << 20) - 4096, 4096);
        Assert.Equal(data, disk.Read(start, data.Length));
        Assert.Equal(-LibC.ENOSPC, partition.Fallocate(0, (1 << 20) - 4096, 8192));
        Assert.Equal(-LibC.EFBIG, partition.Truncate((1 << 20) + 1));
        Assert.Equal(0, partition.Truncate(1 << 20));
    }

    [Fact]
    public void Partitions_come_and_go_with_the_table_and_open_ones_stay_readable()
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = MountPartitioned(server.Uri);
        Partition(mount.File, "label: dos\nsize=4MiB\nsize=4MiB\n");
        Wait.Until(() => Names(mount).Length == 3, "both partitions are there");
        using RawFile second = RawFile.Open(mount.File + ".p2", LibC.O_RDWR);
        byte[] data = Data.Random(4096);
        Assert.Equal(data.Length, second.Write(0, data));

        Partition(mount.File, "label: dos\nsize=6MiB\n");

        Wait.Until(() => Names(mount).SequenceEqual(["disk", "disk.p1"]), "one is gone");
        Wait.Until(() => new FileInfo(mount.File + ".p1").Length == 6 << 20, "the other has its new size");
        Assert.Equal(-LibC.ENOENT, RawFile.OpenError(mount.File + ".p2", LibC.O_RDONLY));
        Assert.Equal(data, second.Read(0, data.Length));
    }

    [Fact]
    public void A_broken_table_gives_no_partitions_and_one_warning()
    {
        string image = Folder.FileAt("image");
        using (FileStream file = File.Create(image))
        {
            file.SetLength(64 << 20);
        }

        Partition(image, Gpt);
        using (RawFile file = RawFile.Open(image, LibC.O_RDWR))
        {
            // Both headers: a table, but not a whole one.
            Assert.Equal(1, file.Write(512 + 20, [0xff]));
            Assert.Equal(1, file.Write((64 << 20) - 512 + 20, [0xff]));
        }

        NbdServer server = Nbdkit("file", image);
        NbdFuseMount mount = MountPartitioned(server.Uri);

        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(["disk"], Names(mount));
        }

        mount.Unmount();
        Assert.Single(mount.Log.Split('\n'), line => line.Contains("partition table is broken", StringComparison.Ordinal));
    }

    [Fact]
    public void A_read_only_disk_has_read_only_partitions()
    {
        string image = Folder.FileAt("image");
        using (FileStream file = File.Create(image))
        {
            file.SetLength(64 << 20);
        }

        Partition(image, Mbr);
        NbdServer server = Nbdkit("-r", "file", image);
        NbdFuseMount mount = MountPartitioned(server.Uri);

        Assert.Equal(["disk", "disk.p1", "disk.p5", "disk.p6"], Names(mount));
        Assert.Equal(-LibC.EROFS, RawFile.OpenError(mount.File + ".p5", LibC.O_RDWR));
        Assert.Equal(0, RawFile.OpenError(mount.File + ".p5", LibC.O_RDONLY));
    }

    [Fact]
    public void A_file_cannot_be_mounted_over_with_partitions()
    {
        NbdServer server = Nbdkit("memory", "1M");
        File.WriteAllText(Folder.FileAt("file"), "");

        (int exitCode, string output) = RunNbdFuse("--partitions", Folder.FileAt("file"), server.Uri);

        Assert.Equal(1, exitCode);
        Assert.Contains("--partitions needs a directory", output, StringComparison.Ordinal);
    }

    private static string[] Names(NbdFuseMount mount) =>
        [.. Directory.GetFiles(mount.MountPath).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];

    private static (string Name, long Start, long Length)[] Sfdisk(string disk)
    {
        using JsonDocument json = JsonDocument.Parse(Tool.Run("sfdisk", "--json", disk));
        return
        [
            .. json.RootElement.GetProperty("partitiontable").GetProperty("partitions").EnumerateArray()
                .Where(partition => partition.GetProperty("type").GetString() != "5")
                .Select(partition => (
                    "disk.p" + partition.GetProperty("node").GetString()![disk.Length..].TrimStart('p'),
                    partition.GetProperty("start").GetInt64() * 512,
                    partition.GetProperty("size").GetInt64() * 512)),
        ];
    }

    private NbdFuseMount MountPartitioned(string uri) =>
        Mount(new MountRequest { Options = ["--partitions"], Source = [uri] });

    private void Partition(string disk, string script)
    {
        string file = Folder.FileAt("script");
        File.WriteAllText(file, script);
        Tool.Run("sh", "-c", "sfdisk -q --no-reread --no-tell-kernel \"$1\" < \"$2\"", "sh", disk, file);
    }
}
