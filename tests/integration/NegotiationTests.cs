using Linux;
using Nbd;
using UnitTests.Nbd;

namespace IntegrationTests;

/// <summary>The handshake option by option with real servers of several exports.</summary>
public sealed class NegotiationTests : IntegrationTest
{
    private const string Allocation = "base:allocation";
    private const string Bitmap = "qemu:dirty-bitmap:b0";

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_dirty_export_of_a_qemu_storage_daemon_is_found_and_opened()
    {
        string image = Folder.FileAt("image.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, "64M");
        Tool.Run("qemu-img", "bitmap", "--add", image, "b0");
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", image);
        NbdServer server = QemuStorageDaemon(
            "--blockdev", "null-co,node-name=nothing,size=2097152,read-zeroes=on",
            "--blockdev", $"qcow2,node-name=disk,file.driver=file,file.filename={image}",
            "--export", "nbd,id=e0,node-name=nothing,name=a b",
            "--export", "nbd,id=e1,node-name=disk,name=disk,writable=on,bitmaps.0=b0");
        await using NbdNegotiation negotiation = await NbdNegotiation.ConnectAsync(server.Uri, cancellationToken: Token);

        Assert.False(await negotiation.RequestExtendedHeadersAsync(Token));
        // The specification advises against it, and this server does not mind.
        Assert.Equal([Allocation], await negotiation.ListMetaContextsAsync("a b", [], Token));
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        List<string> dirty = [];
        foreach (NbdListedExport listed in await negotiation.ListExportsAsync(Token))
        {
            Assert.Equal(listed.Name == "disk", !(await negotiation.InfoAsync(listed.Name, Token)).IsReadOnly);
            if ((await negotiation.ListMetaContextsAsync(listed.Name, ["qemu:dirty-bitmap:"], Token)).Count > 0)
            {
                dirty.Add(listed.Name);
            }
        }

        Assert.Equal(["disk"], dirty);
        Assert.Equal([Allocation], await negotiation.SetMetaContextsAsync("a b", [Allocation, Bitmap], Token));
        Assert.Equal([Bitmap], await negotiation.SetMetaContextsAsync("disk", [Bitmap], Token));
        Assert.Equal(
            Errno.ENOENT, (await Assert.ThrowsAsync<NbdException>(() => negotiation.GoAsync("other", Token))).Errno);
        await using NbdClient disk = await negotiation.GoAsync("disk", Token);

        Assert.Equal([Bitmap], disk.Export.MetaContexts);
        List<NbdExtent> extents = [];
        await foreach (NbdExtent extent in disk.GetExtentsAsync(0, disk.SizeBytes, Bitmap, cancellationToken: Token))
        {
            extents.Add(extent);
        }

        Assert.Equal([0, NbdExtent.Dirty, 0], extents.Select(extent => extent.Flags));
        byte[] data = new byte[64 << 10];
        await disk.ReadAsync(1 << 20, data, Token);
        Assert.All(data, value => Assert.Equal(7, value));
    }

    [Fact]
    public async Task Meta_contexts_of_one_export_do_not_count_for_another()
    {
        NbdServer server = QemuStorageDaemon(
            "--blockdev", "null-co,node-name=one,size=1048576,read-zeroes=on",
            "--blockdev", "null-co,node-name=two,size=2097152,read-zeroes=on",
            "--export", "nbd,id=e0,node-name=one,name=one",
            "--export", "nbd,id=e1,node-name=two,name=two");
        await using NbdNegotiation negotiation = await NbdNegotiation.ConnectAsync(server.Uri, cancellationToken: Token);
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        Assert.Equal([Allocation], await negotiation.SetMetaContextsAsync("one", [Allocation], Token));

        await using NbdClient two = await negotiation.GoAsync("two", Token);

        Assert.Empty(two.Export.MetaContexts);
        await two.ReadAsync(0, new byte[512], Token);
    }

    [Fact]
    public async Task Nbdkit_is_asked_about_each_of_its_exports_before_one_is_opened()
    {
        NbdServer server = Nbdkit(
            "--filter=exportname", "memory", "1M",
            "exportname-list=explicit", "exportname=one", "exportname=two", "exportname-strict=true", "exportdesc=fixed:a text");
        await using NbdNegotiation negotiation = await NbdNegotiation.ConnectAsync(server.Uri, cancellationToken: Token);

        Assert.Equal(["one", "two"], (await negotiation.ListExportsAsync(Token)).Select(export => export.Name));
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        foreach (string name in (string[])["one", "two", "one"])
        {
            Assert.Equal("a text", (await negotiation.InfoAsync(name, Token)).Description);
            Assert.Equal([Allocation], await negotiation.ListMetaContextsAsync(name, ["base:"], Token));
        }

        await Assert.ThrowsAsync<NbdException>(() => negotiation.InfoAsync("three", Token));
        Assert.True(negotiation.IsOpen);
        await using NbdClient two = await negotiation.GoAsync("two", Token);
        await two.WriteAsync(0, new byte[512], cancellationToken: Token);
    }

    [Fact]
    public async Task Nbdserve_agrees_to_extended_headers_after_a_refusal()
    {
        NbdServer server = NbdServe("--export", "first=memory 1M", "--export", "a b=null 2M");
        await using NbdNegotiation negotiation = await NbdNegotiation.ConnectAsync(server.Uri, cancellationToken: Token);

        Assert.Equal(
            Errno.ENOENT, (await Assert.ThrowsAsync<NbdException>(() => negotiation.GoAsync("other", Token))).Errno);
        Assert.True(await negotiation.RequestExtendedHeadersAsync(Token));
        Assert.Equal(["first", "a b"], (await negotiation.ListExportsAsync(Token)).Select(export => export.Name));
        Assert.Equal([Allocation], await negotiation.SetMetaContextsAsync("first", [Allocation], Token));
        Assert.Equal(2 << 20, (await negotiation.InfoAsync("a b", Token)).SizeBytes);
        await using NbdClient first = await negotiation.GoAsync("first", Token);

        Assert.True(first.Export.ExtendedHeaders);
        Assert.Equal([Allocation], first.Export.MetaContexts);
        await foreach (NbdExtent extent in first.GetExtentsAsync(0, first.SizeBytes, cancellationToken: Token))
        {
            Assert.Equal(first.SizeBytes, extent.Length);
        }
    }

    [Theory]
    [InlineData("nbdkit")]
    [InlineData("nbdserve")]
    public async Task TLS_that_a_server_offers_is_started_when_it_is_wanted(string program)
    {
        string pki = Folder.Folder("pki");
        using TestCertificates certificates = new TestCertificates(pki).WithServer("localhost");
        string[] tls = ["--tls=on", $"--tls-certificates={pki}"];
        NbdServer server = program == "nbdkit" ? Nbdkit([.. tls, "memory", "1M"]) : NbdServe([.. tls, "memory", "1M"]);
        NbdClientOptions options = new()
        {
            Tls = new() { Policy = NbdTlsPolicy.Allow, CertificateDirectory = pki, HostName = "localhost" },
        };
        await using NbdNegotiation negotiation = await NbdNegotiation.ConnectAsync(server.Uri, options, Token);
        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        Assert.Single(await negotiation.SetMetaContextsAsync("", [Allocation], Token));

        Assert.True(await negotiation.StartTlsAsync(Token));

        Assert.True(await negotiation.RequestStructuredRepliesAsync(Token));
        await using NbdClient client = await negotiation.GoAsync("", Token);
        Assert.True(client.IsEncrypted);
        Assert.Empty(client.Export.MetaContexts);
        await client.ReadAsync(0, new byte[4096], Token);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_server_that_is_started_for_it_ends_with_it_or_with_the_client(bool goes)
    {
        string image = Folder.FileAt("image");
        await File.WriteAllBytesAsync(image, new byte[1 << 20], Token);
        NbdEndpoint server = new NbdEndpoint.SocketActivation(["qemu-nbd", "-f", "raw", "-x", "disk", image]);
        await using (NbdNegotiation negotiation = await NbdNegotiation.ConnectAsync(server, cancellationToken: Token))
        {
            Assert.Equal("disk", Assert.Single(await negotiation.ListExportsAsync(Token)).Name);
            await Assert.ThrowsAsync<NbdException>(() => negotiation.GoAsync("other", Token));
            if (goes)
            {
                NbdClient client = await negotiation.GoAsync("disk", Token);
                await negotiation.DisposeAsync();
                await client.ReadAsync(0, new byte[512], Token);
                await client.DisposeAsync();
            }
        }

        Assert.Empty(ProcessTable.Mentioning(image));
    }

    [Fact]
    public async Task A_server_that_cannot_be_started_is_named()
    {
        NbdEndpoint server = new NbdEndpoint.SocketActivation(["sh", "-c", "exit 7"]);

        NbdException exception = await Assert.ThrowsAsync<NbdException>(
            () => NbdNegotiation.ConnectAsync(server, cancellationToken: Token));

        Assert.Contains("the server ended with exit status 7", exception.Message);
    }
}
