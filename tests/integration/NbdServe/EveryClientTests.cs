namespace IntegrationTests.NbdServeTests;

/// <summary>Each client reads each backend, and all read the same bytes.</summary>
public sealed class EveryClientTests : IntegrationTest
{
    private const int SizeBytes = 8 << 20;

    private string Image => Folder.FileAt("image");

    [Theory]
    [InlineData("memory 8M")]
    [InlineData("file IMAGE")]
    [InlineData("pattern 8M")]
    [InlineData("null 8M")]
    [InlineData("sparse-random 8M --percent 40 --runlength 256K --random-content")]
    public async Task All_read_the_same(string backend)
    {
        File.WriteAllBytes(Image, SparseContent());
        NbdServer server = NbdServe([.. backend.Split(' ').Select(word => word == "IMAGE" ? Image : word)]);
        if (backend.StartsWith("memory", StringComparison.Ordinal))
        {
            Tool.Run("nbdcopy", Image, server.Uri);
        }

        string copy = Folder.FileAt("copy");
        Tool.Run("nbdcopy", server.Uri, copy);
        byte[] expected = File.ReadAllBytes(copy);
        Assert.Equal(SizeBytes, expected.Length);

        Assert.Equal($"{SizeBytes}", Tool.Run("nbdinfo", "--size", server.Uri).Trim());
        Assert.Equal(SizeBytes, Tool.Run("nbdinfo", "--map", server.Uri).Trim().Split('\n').Sum(line =>
            long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], System.Globalization.CultureInfo.InvariantCulture)));
        Assert.Contains("8 MiB", Tool.Run("qemu-img", "info", "-f", "raw", server.Uri), StringComparison.Ordinal);
        Assert.Contains("Offset", Tool.Run("qemu-img", "map", "-f", "raw", server.Uri), StringComparison.Ordinal);
        Assert.Contains(
            "identical", Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "raw", copy, server.Uri), StringComparison.Ordinal);
        Tool.Run("qemu-img", "convert", "-f", "raw", "-O", "raw", server.Uri, Folder.FileAt("converted"));
        Assert.Equal(expected, File.ReadAllBytes(Folder.FileAt("converted")));
        Assert.DoesNotContain(
            "failed", Tool.Run("qemu-io", "-r", "-f", "raw", "-c", "read 0 8M", server.Uri), StringComparison.OrdinalIgnoreCase);
        Tool.Python(
            server.Uri,
            $"content = open('{copy}', 'rb').read()\nassert h.pread({SizeBytes}, 0) == content\n"
            + "assert h.pread(70001, 12345) == content[12345:][:70001]");
        Tool.Run(
            "fio", "--name=read", "--thread", "--ioengine=nbd", $"--uri={server.Uri}", "--rw=randread", "--bs=4k",
            $"--size={SizeBytes}", "--iodepth=32");
        Assert.Equal(expected, await ReadWithOurClient(server));
        Assert.Equal(expected, File.ReadAllBytes(Mount(server.Uri).File));
        Assert.Equal(expected, ReadThroughTheCNbdfuse(server));
    }

    private static byte[] SparseContent()
    {
        byte[] content = new byte[SizeBytes];
        Data.Random(1_000_000).CopyTo(content, 3_000_000);
        Data.Random(4096, seed: 2).CopyTo(content, SizeBytes - 4096);
        return content;
    }

    private static async Task<byte[]> ReadWithOurClient(NbdServer server)
    {
        byte[] read = new byte[SizeBytes];
        await using Nbd.NbdClient client = await Nbd.NbdClient.ConnectAsync(
            server.Uri, cancellationToken: TestContext.Current.CancellationToken);
        await client.ReadAsync(0, read, TestContext.Current.CancellationToken);
        return read;
    }

    private byte[] ReadThroughTheCNbdfuse(NbdServer server)
    {
        string folder = Folder.Folder("c-mnt");
        string pidFile = Folder.FileAt("c-pid");
        BackgroundProcess nbdfuse = Background("/usr/bin/nbdfuse", "-r", "-P", pidFile, folder, server.Uri);
        Wait.Until(() => File.Exists(pidFile) || nbdfuse.HasExited, $"the C nbdfuse is ready: {nbdfuse}");
        byte[] read = File.ReadAllBytes(Path.Combine(folder, "nbd"));
        MountTable.Unmount(folder);
        nbdfuse.WaitForExit();
        return read;
    }
}
