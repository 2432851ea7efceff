namespace IntegrationTests.NbdServeTests;

/// <summary>Whole disks, copied and compared by other programs.</summary>
public sealed class CopyTests : IntegrationTest
{
    private const int SizeBytes = (8 << 20) + 4096;

    private string Image => Folder.FileAt("image");

    private string Copy => Folder.FileAt("copy");

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    public void Nbdcopy_copies_in_and_out(string kind)
    {
        byte[] data = SparseImage();
        NbdServer server = Writable(kind);

        Tool.Run("nbdcopy", "--connections=4", Image, server.Uri);
        Tool.Run("nbdcopy", server.Uri, Copy);

        Assert.Equal(data, File.ReadAllBytes(Copy));
        Assert.Contains("hole,zero", Tool.Run("nbdinfo", "--map", server.Uri));
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    public void Qemu_img_converts_and_compares(string kind)
    {
        SparseImage();
        NbdServer server = Writable(kind);

        Tool.Run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", Image, server.Uri);

        Assert.Contains("identical", Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "raw", Image, server.Uri));
        Tool.Run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.Uri, Copy);
        Assert.Contains("identical", Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", Image, Copy));
    }

    [Fact]
    public void The_pattern_is_what_nbdkit_has_too()
    {
        NbdServer server = NbdServe("pattern", "1M");

        Tool.Run("nbdcopy", server.Uri, Copy);

        Assert.Equal(Data.Pattern(0, 1 << 20), File.ReadAllBytes(Copy));
    }

    [Fact]
    public void Nothing_takes_a_copy()
    {
        SparseImage();
        NbdServer server = NbdServe("null", $"{SizeBytes}");

        Tool.Run("nbdcopy", Image, server.Uri);
        Tool.Run("nbdcopy", server.Uri, Copy);

        Assert.Equal(new byte[SizeBytes], File.ReadAllBytes(Copy));
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    public void Fio_verifies_what_it_wrote(string kind)
    {
        NbdServer server = Writable(kind);

        Tool.Run(
            "fio", "--name=verify", "--thread", "--ioengine=nbd", $"--uri={server.Uri}", "--rw=randwrite", "--bsrange=512-64k",
            "--bs_unaligned", $"--size={SizeBytes}", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--randseed=7");
    }

    [Fact]
    public async Task Our_own_client_reads_and_writes()
    {
        NbdServer server = NbdServe("memory", "1M");
        byte[] data = Data.Random(300_000);
        byte[] read = new byte[data.Length];

        await using Nbd.NbdClient client = await Nbd.NbdClient.ConnectAsync(
            server.Uri, cancellationToken: TestContext.Current.CancellationToken);
        await client.WriteAsync(12_345, data, cancellationToken: TestContext.Current.CancellationToken);
        await client.ReadAsync(12_345, read, TestContext.Current.CancellationToken);
        await client.FlushAsync(TestContext.Current.CancellationToken);

        Assert.Equal(data, read);
    }

    private NbdServer Writable(string kind) => kind == "file"
        ? NbdServe("file", Folder.FileAt("disk"), "--create", $"{SizeBytes}")
        : NbdServe("memory", $"{SizeBytes}");

    private byte[] SparseImage()
    {
        byte[] data = new byte[SizeBytes];
        Data.Random(1_000_000).CopyTo(data, 500_000);
        Data.Random(4096, seed: 2).CopyTo(data, SizeBytes - 4096);
        File.WriteAllBytes(Image, data);
        return data;
    }
}
