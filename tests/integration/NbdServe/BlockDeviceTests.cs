namespace IntegrationTests.NbdServeTests;

/// <summary>A block device as the disk: a loop device, whose own file shows what reached it. Needs root.</summary>
public sealed class BlockDeviceTests : IntegrationTest
{
    private const int SizeBytes = 4 << 20;

    private string Image => Folder.FileAt("image");

    [Fact]
    public void What_clients_write_zero_and_discard_reaches_the_device()
    {
        File.WriteAllBytes(Image, Data.Random(SizeBytes));
        using LoopDevice device = LoopDevice.Attach(Image);
        NbdServer server = NbdServe("file", device.Path);

        Tool.Python(
            server.Uri,
            """
            assert h.get_size() == 4 << 20
            assert not h.is_read_only() and h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero()
            h.pwrite(b'a' * 100001, 12345)
            h.pwrite(b'b' * 4096, 1 << 20, nbd.CMD_FLAG_FUA)
            assert h.pread(100003, 12344)[1:-1] == b'a' * 100001
            h.zero(65536, 2 << 20)
            h.zero(1000, (2 << 20) + 65536 + 7, nbd.CMD_FLAG_NO_HOLE)
            h.trim(1 << 20, 3 << 20)
            h.cache(1 << 20, 0)
            assert h.pread(65536, 2 << 20) == bytes(65536)
            assert h.pread(1000, (2 << 20) + 65536 + 7) == bytes(1000)
            extents = []
            h.block_status(4 << 20, 0, lambda c, o, e, err: extents.extend(e))
            assert sum(extents[0::2]) == 4 << 20
            h.flush()
            """);

        byte[] written = File.ReadAllBytes(Image);
        Assert.Equal(Data.Filled(100001, (byte)'a'), written[12345..(12345 + 100001)]);
        Assert.Equal(Data.Filled(4096, (byte)'b'), written[(1 << 20)..((1 << 20) + 4096)]);
        Assert.Equal(new byte[65536], written[(2 << 20)..((2 << 20) + 65536)]);
        Assert.Equal(Data.Random(SizeBytes)[^(SizeBytes - (12345 + 100001))..(1 << 20)], written[(12345 + 100001)..(1 << 20)]);
        // The loop device passes on what was discarded.
        Assert.Equal(new byte[1 << 20], written[(3 << 20)..]);
    }

    [Fact]
    public void A_copy_comes_back_whole()
    {
        File.WriteAllBytes(Image, new byte[SizeBytes]);
        string source = Folder.FileAt("source");
        byte[] data = Data.Random(SizeBytes);
        File.WriteAllBytes(source, data);
        using LoopDevice device = LoopDevice.Attach(Image);
        NbdServer server = NbdServe("file", device.Path);

        Tool.Run("nbdcopy", "--flush", source, server.Uri);
        Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, server.Uri);

        Assert.Equal(data, File.ReadAllBytes(Image));
    }

    [Fact]
    public void A_device_that_is_read_only_is_served_with_readonly_only()
    {
        File.WriteAllBytes(Image, Data.Random(SizeBytes));
        using LoopDevice device = LoopDevice.Attach(Image, "--read-only");

        (int exitCode, string output) = RunNbdServe("file", device.Path, "--unix", Folder.FileAt("s"));
        Assert.Equal(1, exitCode);
        Assert.StartsWith($"nbdserve: open {device.Path} for writing", Assert.Single(output.TrimEnd('\n').Split('\n')));

        NbdServer server = NbdServe("file", device.Path, "--readonly");
        Tool.Python(server.Uri, "assert h.is_read_only() and h.get_size() == 4 << 20");
        Assert.Contains("identical", Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "raw", Image, server.Uri));
    }

    [Fact]
    public void A_device_is_not_created()
    {
        File.WriteAllBytes(Image, new byte[SizeBytes]);
        using LoopDevice device = LoopDevice.Attach(Image);

        (int exitCode, string output) = RunNbdServe("file", device.Path, "--create", "1M", "--unix", Folder.FileAt("s"));

        Assert.Equal(1, exitCode);
        Assert.Contains("File exists", output, StringComparison.Ordinal);
        Assert.True(File.Exists(device.Path));
    }

    private sealed class LoopDevice : IDisposable
    {
        private LoopDevice(string path)
        {
            Path = path;
        }

        public string Path { get; }

        public static LoopDevice Attach(string file, params string[] options) =>
            new(Tool.Run("losetup", [.. options, "--find", "--show", file]).Trim());

        public void Dispose() => Tool.Run("losetup", "--detach", Path);
    }
}
