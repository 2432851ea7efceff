using Nbd;

namespace IntegrationTests;

/// <summary>Lists of exports, and what is told about each, from every kind of server.</summary>
public sealed class ExportListTests : IntegrationTest
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private string Image
    {
        get
        {
            string path = Folder.FileAt("image");
            File.WriteAllBytes(path, new byte[1 << 20]);
            return path;
        }
    }

    [Fact]
    public async Task Qemu_nbd_has_descriptions_and_contexts()
    {
        NbdServer server = QemuNbd("-f", "raw", "-r", "-A", "-x", "disk", "-D", "a nice disk", Image);

        NbdListedExport export = Assert.Single(await ListAsync(server));

        Assert.Equal(("disk", "a nice disk"), (export.Name, export.Description));
        Assert.Equal((1L << 20, true), (export.Export!.SizeBytes, export.Export.IsReadOnly));
        Assert.Equal("a nice disk", export.Export.Description);
        Assert.Equal(["base:allocation", "qemu:allocation-depth"], export.Export.MetaContexts);
    }

    [Fact]
    public async Task A_qemu_storage_daemon_tells_of_each_of_its_exports()
    {
        string image = Folder.FileAt("image.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M");
        Tool.Run("qemu-img", "bitmap", "--add", image, "b0");
        NbdServer server = QemuStorageDaemon(
            "--blockdev", $"qcow2,node-name=disk,file.driver=file,file.filename={image}",
            "--blockdev", "null-co,node-name=nothing,size=2097152,read-zeroes=on",
            "--export", "nbd,id=e0,node-name=disk,name=disk,description=a nice disk,writable=on,bitmaps.0=b0,allocation-depth=on",
            "--export", "nbd,id=e1,node-name=nothing,name=a b");

        IReadOnlyList<NbdListedExport> exports = await ListAsync(server);

        Assert.Equal(
            [("a b", "", 2L << 20, true), ("disk", "a nice disk", 1L << 20, false)],
            exports.OrderBy(export => export.Name, StringComparer.Ordinal).Select(
                export => (export.Name, export.Description, export.Export!.SizeBytes, export.Export.IsReadOnly)));
        Assert.Equal(
            ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"],
            exports.Single(export => export.Name == "disk").Export!.MetaContexts);
        await using NbdClient second = await NbdClient.ConnectAsync(server.UriOf("a%20b"), cancellationToken: Token);
        Assert.Equal(2L << 20, second.SizeBytes);
    }

    [Fact]
    public async Task The_reference_server_lists_when_it_is_allowed_to()
    {
        NbdServer server = ReferenceServer("disk", Image, $"[other]\nexportname = {Image}\nreadonly = true\n");

        IReadOnlyList<NbdListedExport> exports = await ListAsync(server);

        Assert.Equal(["disk", "other"], exports.Select(export => export.Name).Order());
        Assert.All(exports, export => Assert.True(export.Export is not null != export.Refusal is not null));
    }

    [Fact]
    public async Task Nbdkit_lists_what_its_exportname_filter_says()
    {
        NbdServer server = Nbdkit(
            "--filter=exportname", "memory", "1M",
            "exportname-list=explicit", "exportname=one", "exportname=two", "exportdesc=fixed:a text");

        IReadOnlyList<NbdListedExport> exports = await ListAsync(server);

        Assert.Equal(
            [("one", "a text", 1L << 20), ("two", "a text", 1L << 20)],
            exports.Select(export => (export.Name, export.Description, export.Export!.SizeBytes)));
        Assert.All(exports, export => Assert.Equal(["base:allocation"], export.Export!.MetaContexts));
    }

    [Fact]
    public async Task An_oldstyle_server_has_one_export()
    {
        NbdServer server = Nbdkit("-o", "memory", "1M");

        NbdListedExport export = Assert.Single(await ListAsync(server));

        Assert.Equal(("", 1L << 20), (export.Name, export.Export!.SizeBytes));
    }

    [Fact]
    public async Task A_server_without_options_cannot_list()
    {
        NbdServer server = Nbdkit("--mask-handshake=0", "memory", "1M");

        Assert.Contains(
            "fixed newstyle", (await Assert.ThrowsAsync<NbdException>(() => ListAsync(server))).Message);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Nbdserve_lists_all_its_exports(bool extended)
    {
        NbdServer server = NbdServe("--export", "first=memory 1M", "--export", "a b=null 2M", "--readonly");

        IReadOnlyList<NbdListedExport> exports = await NbdClient.ListExportsAsync(
            server.Uri, new NbdClientOptions { ExtendedHeaders = extended }, withDetails: true, Token);

        Assert.Equal(["first", "a b"], exports.Select(export => export.Name));
        Assert.Equal([1L << 20, 2L << 20], exports.Select(export => export.Export!.SizeBytes));
        Assert.All(exports, export =>
        {
            Assert.Equal(extended, export.Export!.ExtendedHeaders);
            Assert.Equal(["base:allocation"], export.Export.MetaContexts);
            Assert.Equal(export.Name, export.Export.CanonicalName);
        });
        NbdExport second = await NbdClient.GetExportAsync(server.UriOf("a%20b"), cancellationToken: Token);
        Assert.Equal(("a b", 2L << 20), (second.Name, second.SizeBytes));
    }

    [Fact]
    public async Task A_captive_server_is_asked_and_ends()
    {
        string image = Image;

        IReadOnlyList<NbdListedExport> exports = await NbdClient.ListExportsAsync(
            new NbdEndpoint.SocketActivation(["qemu-nbd", "-f", "raw", "-x", "disk", image]), cancellationToken: Token);

        Assert.Equal("disk", Assert.Single(exports).Name);
        Assert.Empty(ProcessTable.Mentioning(image));
    }

    private static Task<IReadOnlyList<NbdListedExport>> ListAsync(NbdServer server) =>
        NbdClient.ListExportsAsync(server.Uri, withDetails: true, cancellationToken: Token);
}
