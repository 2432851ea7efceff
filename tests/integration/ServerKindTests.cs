namespace IntegrationTests;

/// <summary>Servers of other makes, and of other protocol generations.</summary>
public sealed class ServerKindTests : IntegrationTest
{
    [Fact]
    public void The_reference_server_is_read_and_written()
    {
        ServedImage image = new(Folder);
        NbdServer server = ReferenceServer("disk", image.Path, "flush = true\nfua = true");

        image.ReadAndWriteThrough(Mount($"nbd://localhost:{server.Port}/disk"));
    }

    [Fact]
    public void A_qemu_server_is_read_and_written()
    {
        ServedImage image = new(Folder);
        NbdServer server = QemuNbd("-f", "raw", image.Path);

        image.ReadAndWriteThrough(Mount(server.Uri));
    }

    [Fact]
    public void A_qemu_storage_daemon_is_read_and_written()
    {
        ServedImage image = new(Folder);
        NbdServer server = QemuStorageDaemon(
            "--blockdev", $"file,node-name=disk,filename={image.Path}",
            "--export", "nbd,id=disk,node-name=disk,name=disk,writable=on");

        image.ReadAndWriteThrough(Mount(server.UriOf("disk")));
    }

    [Fact]
    public void An_oldstyle_server_is_read_and_written()
    {
        ServedImage image = new(Folder);
        NbdServer server = Nbdkit("-o", "file", image.Path);

        // In oldstyle, nbdkit 1.32 announces FLUSH and refuses it (EINVAL), so the last flush fails.
        image.ReadAndWriteThrough(Mount(server.Uri), exitCode: 1);
    }

    [Fact]
    public void A_server_without_structured_replies_is_read_and_written()
    {
        ServedImage image = new(Folder);
        NbdServer server = Nbdkit("--no-sr", "file", image.Path);

        image.ReadAndWriteThrough(Mount(server.Uri));
    }

    [Fact]
    public void A_newstyle_server_without_fixed_options_is_read_and_written()
    {
        ServedImage image = new(Folder);
        NbdServer server = Nbdkit("--mask-handshake=0", "file", image.Path);

        image.ReadAndWriteThrough(Mount(server.Uri));
    }
}
