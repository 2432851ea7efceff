using Nbd;

namespace IntegrationTests;

/// <summary>What servers answer to queries for meta contexts.</summary>
public sealed class MetaContextQueryTests : IntegrationTest
{
    private const string Allocation = "base:allocation";
    private const string Depth = "qemu:allocation-depth";
    private const string FirstBitmap = "qemu:dirty-bitmap:b0";
    private const string SecondBitmap = "qemu:dirty-bitmap:b1";

    [Theory]
    [InlineData("", Allocation, Depth, FirstBitmap, SecondBitmap)]
    [InlineData("base:", Allocation)]
    [InlineData("base:allocation", Allocation)]
    [InlineData("qemu:", Depth, FirstBitmap, SecondBitmap)]
    [InlineData("qemu:dirty-bitmap:", FirstBitmap, SecondBitmap)]
    [InlineData("qemu:dirty-bitmap:b1 base:", Allocation, SecondBitmap)]
    [InlineData("qemu:allocation-depth", Depth)]
    [InlineData("qemu:dirty-bitmap:other base:other x-nobody:")]
    public async Task Qemu_tells_what_matches(string queries, params string[] contexts)
    {
        string image = Folder.FileAt("image.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M");
        Tool.Run("qemu-img", "bitmap", "--add", image, "b0");
        Tool.Run("qemu-img", "bitmap", "--add", image, "b1");
        NbdServer server = QemuStorageDaemon(
            "--blockdev", $"qcow2,node-name=disk,file.driver=file,file.filename={image}",
            "--export", "nbd,id=e0,node-name=disk,name=disk,writable=on,bitmaps.0=b0,bitmaps.1=b1,allocation-depth=on");

        Assert.Equal(contexts, (await ListAsync(server.UriOf("disk"), queries)).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("base: base:allocation x-nobody:", Allocation)]
    [InlineData("qemu:")]
    public async Task Nbdkit_tells_what_matches(string queries, params string[] contexts)
    {
        NbdServer server = Nbdkit("memory", "1M");

        Assert.Equal(contexts, await ListAsync(server.Uri, queries));
    }

    [Theory]
    [InlineData("", Allocation)]
    [InlineData("base: base:allocation x-nobody:", Allocation)]
    [InlineData("qemu: base:other")]
    public async Task Nbdserve_tells_what_matches(string queries, params string[] contexts)
    {
        NbdServer server = NbdServe("memory", "1M");

        Assert.Equal(contexts, await ListAsync(server.Uri, queries));
    }

    [Fact]
    public async Task An_export_of_qemu_nbd_that_is_not_there_is_an_error()
    {
        string image = Folder.FileAt("image");
        File.WriteAllBytes(image, new byte[1 << 20]);
        NbdServer server = QemuNbd("-f", "raw", "-x", "disk", image);

        Assert.Equal([Allocation], await ListAsync(server.UriOf("disk"), "qemu: base:"));
        Assert.Equal(
            Linux.Errno.ENOENT,
            (await Assert.ThrowsAsync<NbdException>(() => ListAsync(server.UriOf("other"), "base:"))).Errno);
    }

    private static Task<IReadOnlyList<string>> ListAsync(string uri, string queries) => NbdClient.ListMetaContextsAsync(
        uri,
        queries.Split(' ', StringSplitOptions.RemoveEmptyEntries),
        cancellationToken: TestContext.Current.CancellationToken);
}
