namespace IntegrationTests;

/// <summary>The programs in examples/ that use NbdClient, each run as its reader would.</summary>
public sealed class ClientExamplesTests : IntegrationTest
{
    private const int MiB = 1 << 20;

    [Fact]
    public void A_sector_of_a_qcow2_image_is_edited()
    {
        string image = NewImage("qcow2", "64M");

        string output = Run("edit-qcow2.cs", image);

        Assert.Contains($"virtual size: {64 * MiB} bytes", output);
        Assert.Contains("mark before: 0000", output);
        Assert.Contains("mark before: 55aa", Run("edit-qcow2.cs", image));
        Tool.Run("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 0 0 510", "-c", "read -P 0x55 510 1", image);
        Tool.Run("qemu-img", "check", image);
    }

    [Fact]
    public void The_extents_of_a_VMDK_image_are_told()
    {
        string image = NewImage("vmdk", "64M");
        Tool.Run("qemu-io", "-f", "vmdk", "-c", "write -P 0xa5 1M 1M", image);

        string output = Run("read-vmdk.cs", image);

        string[][] lines = [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(line => line.Split((char[])[' ', ','], StringSplitOptions.RemoveEmptyEntries))];
        Assert.Equal(["virtual", "size:", $"{64 * MiB}", "bytes"], lines[0]);
        Assert.Equal(["0", $"{MiB}", "zeroes"], lines[1]);
        Assert.Equal([$"{MiB}", $"{MiB}", "data", string.Concat(Enumerable.Repeat("a5", 16)) + "..."], lines[2]);
        Assert.Equal([$"{2 * MiB}", $"{62 * MiB}", "zeroes"], lines[3]);
        Assert.Equal(4, lines.Length);
    }

    [Fact]
    public void The_exports_of_a_server_are_listed()
    {
        File.WriteAllBytes(Folder.FileAt("small"), new byte[512]);
        File.WriteAllBytes(Folder.FileAt("big"), new byte[MiB]);
        using TestDirectory shown = new();
        File.Move(Folder.FileAt("small"), shown.FileAt("a b"));
        File.Move(Folder.FileAt("big"), shown.FileAt("big"));
        NbdServer server = Nbdkit("-r", "file", $"dir={shown.Path}");

        string output = Run("list-exports.cs", server.Uri);

        Assert.Contains("'a%20b'", output);
        Assert.Contains("    512 bytes, read-only", output);
        Assert.Contains("'big'", output);
        Assert.Contains($"    {MiB} bytes, read-only", output);
    }

    [Fact]
    public void A_copy_has_holes_where_the_export_has_zeroes()
    {
        NbdServer server = Nbdkit("memory", "64M");
        byte[] data = Data.Random(5 * MiB);
        File.WriteAllBytes(Folder.FileAt("data"), data);
        Tool.Run(
            "qemu-io", "-f", "raw", "-c", $"write -s {Folder.FileAt("data")} 8M 5M", $"nbd:unix:{server.Socket}");

        string output = Run("sparse-copy.cs", server.Uri, Folder.FileAt("copy"));

        Assert.Contains($"copied {data.Length} of {64 * MiB} bytes", output);
        byte[] expected = new byte[64 * MiB];
        data.CopyTo(expected, 8 * MiB);
        Assert.True(expected.AsSpan().SequenceEqual(File.ReadAllBytes(Folder.FileAt("copy"))));
        long allocated = long.Parse(Tool.Run("stat", "-c", "%b", Folder.FileAt("copy")).Trim()) * 512;
        Assert.InRange(allocated, data.Length, data.Length + MiB);
    }

    [Fact]
    public void A_backup_reads_only_what_is_dirty()
    {
        string image = NewImage("qcow2", "64M");
        string copy = Folder.FileAt("copy");
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 16M", image);
        Tool.Run("qemu-img", "convert", "-O", "raw", image, copy);
        Tool.Run("qemu-img", "bitmap", "--add", image, "since-copy");
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 2 4M 1M", "-c", "write -z 8M 2M", image);

        string output = Run("dirty-backup.cs", image, "since-copy", copy);

        Assert.Contains($"copied {3 * MiB} of {64 * MiB} bytes", output);
        Assert.Contains("identical", Tool.Run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, copy));
    }

    [Theory]
    [InlineData("edit-qcow2.cs")]
    [InlineData("read-vmdk.cs")]
    [InlineData("list-exports.cs")]
    [InlineData("sparse-copy.cs")]
    public void Each_is_at_most_30_lines(string name) =>
        Assert.InRange(File.ReadAllLines(Example(name)).Length, 1, 30);

    private static string Example(string name) => Path.Combine(Repository.Root, "examples", name);

    private string NewImage(string format, string size)
    {
        string image = Folder.FileAt($"disk.{format}");
        Tool.Run("qemu-img", "create", "-f", format, image, size);
        return image;
    }

    private string Run(string name, params string[] arguments)
    {
        BackgroundProcess example = Background("dotnet", ["run", Example(name), "--", .. arguments]);
        // It is compiled first.
        int exitCode = example.WaitForExit(TimeSpan.FromMinutes(4));
        Assert.True(exitCode == 0, example.ToString());
        return example.Log;
    }
}
