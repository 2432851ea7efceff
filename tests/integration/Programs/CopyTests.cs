namespace IntegrationTests.Programs;

/// <summary>Programs that copy disk images, in and out, with holes and without.</summary>
public sealed class CopyTests : ProgramTest
{
    private const int SizeBytes = 16 << 20;

    [Theory]
    [MemberData(nameof(Servers))]
    public void Cp_makes_a_sparse_copy_that_is_equal(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Patchwork(SizeBytes));

        foreach (string sparse in new[] { "always", "auto", "never" })
        {
            string copy = Folder.FileAt($"copy-{sparse}");
            Tool.Run("cp", $"--sparse={sparse}", disks.Disk, copy);
            Tool.Run("cmp", disks.Local, copy);
        }

        disks.CheckEqualToTheEnd();
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void Cp_over_the_disk_writes_all_of_it(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Data.Random(SizeBytes, 7));
        string source = Folder.FileAt("source");
        File.WriteAllBytes(source, Patchwork(SizeBytes));

        disks.Both(disk => Tool.Run("cp", "--sparse=never", source, disk));

        disks.CheckEqualToTheEnd();
    }

    /// <summary>A copy of a disk that is nearly all holes takes no more room than its data, whoever makes it.</summary>
    [Theory]
    [InlineData("cp", "cp DISK COPY")]
    [InlineData("cp --sparse=always", "cp --sparse=always DISK COPY")]
    [InlineData("tar", "tar -S -c -f COPY.tar -C $(dirname DISK) disk && tar -x -O -f COPY.tar >/dev/null && tar -x -f COPY.tar && mv disk COPY")]
    [InlineData("rsync", "rsync --sparse DISK COPY")]
    [InlineData("qemu-img convert", "qemu-img convert -f raw -O raw DISK COPY")]
    public void Copies_keep_the_holes(string name, string command)
    {
        const long Size = 1L << 30;
        const int DataBytes = 1 << 20;
        NbdServer server = NbdServe("memory", "1G");
        byte[] data = Data.Random(DataBytes, 11);
        string source = Folder.FileAt("data");
        File.WriteAllBytes(source, data);
        Tool.Run("qemu-io", "-f", "raw", "-c", $"write -s {source} 500M 1M", server.Uri);
        NbdFuseMount mount = Mount(server.Uri);
        string copy = Folder.FileAt("copy");

        // cp looks for holes only in a file whose blocks are fewer than its size, and the server may be slow to tell.
        Wait.Until(() => Tool.Run("du", "-k", mount.File).StartsWith("1024\t", StringComparison.Ordinal), "du tells 1 MiB");
        Tool.Run(
            "sh", "-c", $"cd {Folder.Path} && {command.Replace("DISK", mount.File).Replace("COPY", copy)}");

        Assert.Equal(Size, new FileInfo(copy).Length);
        Tool.Run("cmp", mount.File, copy);
        Assert.True(HoleMap.AllocatedBytes(copy) <= 2 * DataBytes, $"{name}: the copy takes {HoleMap.AllocatedBytes(copy)} bytes");
        if (name == "tar")
        {
            Assert.True(new FileInfo(copy + ".tar").Length <= 2 * DataBytes);
        }
    }

    [Fact]
    public void Du_and_qemu_img_see_the_data_alone()
    {
        NbdServer server = NbdServe("memory", "1G");
        Tool.Run("qemu-io", "-f", "raw", "-c", "write -P 7 500M 1M", server.Uri);
        NbdFuseMount mount = Mount(server.Uri);

        Wait.Until(() => Tool.Run("du", "-k", mount.File).StartsWith("1024\t", StringComparison.Ordinal), "du tells 1 MiB");
        Assert.Equal(
            "[(524288000, 525336576)]",
            $"[{string.Join(", ", HoleMap.OfServer(server.Uri))}]");
        string map = Tool.Run("qemu-img", "map", "--output=json", "-f", "raw", mount.File);
        Assert.Contains("\"start\": 524288000, \"length\": 1048576, \"depth\": 0, \"present\": true, \"zero\": false, \"data\": true", map);
        Assert.Contains("\"start\": 0, \"length\": 524288000, \"depth\": 0, \"present\": true, \"zero\": true, \"data\": false", map);
    }

    /// <summary>An archiver that trusts the number of blocks takes a file without any for empty.</summary>
    [Theory]
    [MemberData(nameof(Servers))]
    public void Tar_keeps_a_disk_full_of_data(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Data.Random(SizeBytes, 3));
        string archive = Folder.FileAt("disk.tar");
        string restored = Folder.Folder("restored");

        Tool.Run("tar", "-S", "-c", "-f", archive, "-C", System.IO.Path.GetDirectoryName(disks.Disk)!, "disk");
        Tool.Run("tar", "-x", "-f", archive, "-C", restored);

        Tool.Run("cmp", disks.Local, Path(restored, "disk"));
        disks.CheckEqualToTheEnd();
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void Tar_keeps_a_disk_with_holes(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Patchwork(SizeBytes));
        string archive = Folder.FileAt("disk.tar");
        string restored = Folder.Folder("restored");

        Tool.Run("tar", "-S", "-c", "-f", archive, "-C", System.IO.Path.GetDirectoryName(disks.Disk)!, "disk");
        Tool.Run("tar", "-x", "-f", archive, "-C", restored);

        Tool.Run("cmp", disks.Local, Path(restored, "disk"));
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void Rsync_updates_the_disk_in_place_and_makes_a_sparse_copy(string server)
    {
        byte[] content = Patchwork(SizeBytes);
        DiskPair disks = Disks(server, SizeBytes, content);
        string source = Folder.FileAt("source");
        Data.Random(70_000, 5).CopyTo(content, 5_000_001);
        content.AsSpan(9_000_000, 1_000_000).Clear();
        File.WriteAllBytes(source, content);

        disks.Both(disk => Tool.Run("rsync", "--inplace", "--no-whole-file", "--ignore-times", source, disk));
        Tool.Run("rsync", "--sparse", disks.Disk, Folder.FileAt("copy"));

        Tool.Run("cmp", source, disks.Disk);
        Tool.Run("cmp", source, Folder.FileAt("copy"));
        disks.CheckEqualToTheEnd();
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void Rsync_makes_zeroes_of_data_in_place(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Data.Random(SizeBytes, 8));
        string source = Folder.FileAt("source");
        File.WriteAllBytes(source, Patchwork(SizeBytes, 2));

        disks.Both(disk => Tool.Run("rsync", "--sparse", "--inplace", "--no-whole-file", "--ignore-times", source, disk));

        Tool.Run("cmp", source, disks.Disk);
        disks.CheckEqualToTheEnd();
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public void Dd_writes_what_it_writes_to_a_local_file(string server)
    {
        DiskPair disks = Disks(server, SizeBytes, Data.Random(SizeBytes, 9));
        string source = Folder.FileAt("source");
        File.WriteAllBytes(source, Patchwork(3 << 20, 2));

        disks.Both(disk => Tool.Run("dd", $"if={source}", $"of={disk}", "bs=1000", "seek=77", "conv=notrunc", "count=501"));
        disks.Both(disk => Tool.Run("dd", $"if={source}", $"of={disk}", "bs=64K", "seek=100", "oflag=direct", "conv=notrunc"));
        disks.Both(disk => Tool.Run("dd", $"if={source}", $"of={disk}", "bs=4K", "seek=1000", "count=50", "oflag=sync", "conv=notrunc"));
        disks.Both(disk => Tool.Run("dd", $"if={source}", $"of={disk}", "bs=64K", "seek=20", "conv=notrunc,sparse,fsync"));
        disks.Both(disk => Tool.Run("dd", "if=/dev/zero", $"of={disk}", "bs=1M", "seek=2", "count=2", "iflag=fullblock", "conv=notrunc,fdatasync"));

        disks.CheckEqualToTheEnd();
    }

    /// <summary>Without conv=notrunc dd truncates: a file of fixed size keeps it, as a block device does.</summary>
    [Fact]
    public void Dd_without_notrunc_keeps_the_size()
    {
        DiskPair disks = Disks("nbdkit file", SizeBytes, Data.Random(SizeBytes, 9));
        string source = Folder.FileAt("source");
        File.WriteAllBytes(source, Data.Random(1 << 20, 4));

        Tool.Run("dd", $"if={source}", $"of={disks.Disk}", "bs=64K");
        Tool.Run("dd", $"if={source}", $"of={disks.Local}", "bs=64K", "conv=notrunc");

        disks.CheckEqualToTheEnd();
    }

    [Fact]
    public void Dd_stops_at_the_end_with_enospc()
    {
        DiskPair disks = Disks("nbdkit memory", SizeBytes + 1000);

        (int exitCode, string output) = Tool.Try("dd", "if=/dev/urandom", $"of={disks.Disk}", "bs=64K", "conv=notrunc");

        Assert.Equal(1, exitCode);
        Assert.Contains("No space left on device", output);
        Assert.Contains($"{SizeBytes + 1000} bytes", output);
    }
}
