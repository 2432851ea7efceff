namespace IntegrationTests;

/// <summary>Servers of other makes, and of other protocol generations.</summary>
public sealed class ServerKindTests : IntegrationTest
{
    private const int SizeBytes = 3 << 20;

    [Fact]
    public void The_reference_server_is_read_and_written()
    {
        string image = Image();
        NbdServer server = ReferenceServer("disk", image, "flush = true\nfua = true");

        WriteInTheMiddle(Mount($"nbd://localhost:{server.Port}/disk"), image);
    }

    [Fact]
    public void A_qemu_server_is_read_and_written()
    {
        string image = Image();
        NbdServer server = QemuNbd("-f", "raw", image);

        WriteInTheMiddle(Mount(server.Uri), image);
    }

    [Fact]
    public void An_oldstyle_server_is_read_and_written()
    {
        string image = Image();
        NbdServer server = Nbdkit("-o", "file", image);

        // In oldstyle, nbdkit 1.32 announces FLUSH and refuses it (EINVAL), so the last flush fails.
        WriteInTheMiddle(Mount(server.Uri), image, exitCode: 1);
    }

    [Fact]
    public void A_server_without_structured_replies_is_read_and_written()
    {
        string image = Image();
        NbdServer server = Nbdkit("--no-sr", "file", image);

        WriteInTheMiddle(Mount(server.Uri), image);
    }

    [Fact]
    public void A_newstyle_server_without_fixed_options_is_read_and_written()
    {
        string image = Image();
        NbdServer server = Nbdkit("--mask-handshake=0", "file", image);

        WriteInTheMiddle(Mount(server.Uri), image);
    }

    private static void WriteInTheMiddle(NbdFuseMount mount, string image, int exitCode = 0)
    {
        byte[] expected = File.ReadAllBytes(image);
        Assert.Equal(expected, File.ReadAllBytes(mount.File));

        byte[] data = Data.Random(300_000, seed: 2);
        using (FileStream file = new(mount.File, FileMode.Open, FileAccess.ReadWrite))
        {
            file.Position = 1_000_001;
            file.Write(data);
        }

        mount.Unmount(exitCode);
        data.CopyTo(expected, 1_000_001);
        Assert.Equal(expected, File.ReadAllBytes(image));
    }

    private string Image()
    {
        string image = Folder.FileAt("image");
        File.WriteAllBytes(image, Data.Random(SizeBytes));
        return image;
    }
}
