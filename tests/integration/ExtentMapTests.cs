using System.Text.Json;
using Nbd;

namespace IntegrationTests;

/// <summary>GetExtentsAsync says of every kind of image what nbdinfo says of it.</summary>
public sealed class ExtentMapTests : IntegrationTest
{
    private const string Allocation = "base:allocation";
    private const string Bitmap = "qemu:dirty-bitmap:b0";
    private const string Depth = "qemu:allocation-depth";

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_sparse_raw_image()
    {
        string image = NewImage("raw", "64M", "write -P 1 1M 64k", "write -P 2 5M 3M", "write -z -u 6M 1M");

        await AssertMapAsync(QemuNbd("-e", "4", "-f", "raw", image).Uri, Allocation, minimumExtents: 5);
    }

    [Fact]
    public async Task A_qcow2_image()
    {
        string image = NewImage("qcow2", "64M", "write -P 1 1M 64k", "write -P 2 5M 3M", "write -z 20M 1M");

        await AssertMapAsync(QemuNbd("-e", "4", "-f", "qcow2", image).Uri, Allocation, minimumExtents: 5);
    }

    [Fact]
    public async Task A_dirty_bitmap()
    {
        string image = NewImage("qcow2", "64M", "write -P 1 1M 64k");
        Tool.Run("qemu-img", "bitmap", "--add", image, "b0");
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 2 5M 3M", "-c", "write -P 3 40M 64k", image);

        await AssertMapAsync(QemuNbd("-e", "4", "-f", "qcow2", "-B", "b0", image).Uri, Bitmap, minimumExtents: 5);
    }

    [Fact]
    public async Task The_depth_in_a_backing_chain()
    {
        string below = NewImage("qcow2", "64M", "write -P 1 1M 64k", "write -P 1 30M 8M");
        string middle = NewImage("qcow2", below, "write -P 2 5M 3M");
        string top = NewImage("qcow2", middle, "write -P 3 6M 64k");

        List<NbdExtent> map = await AssertMapAsync(QemuNbd("-e", "4", "-f", "qcow2", "-A", top).Uri, Depth, minimumExtents: 9);

        Assert.Equal((ulong[])[0, 1, 2, 3], map.Select(extent => extent.Flags).Distinct().Order());
    }

    [Fact]
    public async Task Several_contexts_at_once()
    {
        string image = NewImage("qcow2", "64M", "write -P 1 1M 64k");
        Tool.Run("qemu-img", "bitmap", "--add", image, "b0");
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 2 5M 3M", image);
        NbdServer server = QemuNbd("-e", "4", "-f", "qcow2", "-A", "-B", "b0", image);
        await using NbdClient client = await ConnectAsync(server.Uri, Allocation, Bitmap, Depth, "x-nobody:has-this");

        Assert.Equal([Allocation, Depth, Bitmap], client.Export.MetaContexts);
        foreach (string context in client.Export.MetaContexts)
        {
            Assert.Equal(MapOf(server.Uri, context), await MapOfAsync(client, context));
        }
    }

    [Fact]
    public async Task What_a_qemu_storage_daemon_serves()
    {
        string below = NewImage("qcow2", "64M", "write -P 1 1M 64k", "write -P 1 30M 8M");
        string top = NewImage("qcow2", below, "write -P 2 5M 3M");
        Tool.Run("qemu-img", "bitmap", "--add", top, "b0");
        Tool.Run("qemu-io", "-f", "qcow2", "-c", "write -P 3 6M 64k", "-c", "write -z 31M 1M", top);
        NbdServer server = QemuStorageDaemon(
            "--blockdev", $"qcow2,node-name=disk,file.driver=file,file.filename={top}",
            "--export", "nbd,id=e0,node-name=disk,name=disk,writable=on,bitmaps.0=b0,allocation-depth=on");
        string uri = server.UriOf("disk");

        List<NbdExtent> allocation = await AssertMapAsync(uri, Allocation, minimumExtents: 9);
        List<NbdExtent> depth = await AssertMapAsync(uri, Depth, minimumExtents: 9);
        List<NbdExtent> dirty = await AssertMapAsync(uri, Bitmap, minimumExtents: 5);

        Assert.Equal(9L << 20, allocation.Where(extent => !extent.IsZero).Sum(extent => extent.Length) - 65536 - (1 << 20));
        Assert.Equal((ulong[])[0, 1, 2], depth.Select(extent => extent.Flags).Distinct().Order());
        Assert.Equal(
            [(6L << 20, 65536), (31L << 20, 1 << 20)],
            dirty.Where(extent => extent.Flags == NbdExtent.Dirty).Select(extent => (extent.Offset, extent.Length)));
    }

    [Theory]
    [InlineData("data data=1;@1048576;2*70000;@4194304;3*5 size=8M", 4)]
    [InlineData("sparse-random 256M seed=1 percent=30 runlength=65536", 100)]
    [InlineData("memory 64M", 1)]
    [InlineData("memory 20G", 1)]
    [InlineData("--filter=cacheextents sparse-random 64M seed=2 percent=30 runlength=65536", 100)]
    [InlineData("--filter=blocksize-policy sparse-random 64M seed=3 percent=30 runlength=65536 blocksize-minimum=4096", 100)]
    public async Task What_nbdkit_serves(string arguments, int minimumExtents)
    {
        NbdServer server = Nbdkit([.. arguments.Split(' ').Select(argument => argument.Replace(';', ' '))]);

        await AssertMapAsync(server.Uri, Allocation, minimumExtents);
    }

    [Fact]
    public async Task Written_data_in_nbdkits_memory()
    {
        NbdServer server = Nbdkit("memory", "8G");
        Tool.Python(server.Uri, "h.pwrite(b'x' * 65536, 131072)\nh.pwrite(b'y' * 65536, 5 << 30)");

        await AssertMapAsync(server.Uri, Allocation, minimumExtents: 5);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Extended_headers_make_extents_longer_than_4_GiB(bool extended)
    {
        NbdServer server = NbdServe("memory", "40G");
        Tool.Python(server.Uri, "h.pwrite(b'x' * 65536, 30 << 30)");
        await using NbdClient client = await NbdClient.ConnectAsync(
            server.Uri, new NbdClientOptions { MetaContexts = [Allocation], ExtendedHeaders = extended }, Token);

        Assert.Equal(extended, client.Export.ExtendedHeaders);
        Assert.Equal(extended, client.Export.CanFilterMetaContexts);
        List<NbdExtent> map = await MapOfAsync(client, Allocation);
        Assert.Equal(MapOf(server.Uri, Allocation), map);
        Assert.Equal(30L << 30, map[0].Length);

        // Longer than a compact request can say; afterwards nothing is left.
        await client.WriteZeroesAsync(1, (40L << 30) - 1, cancellationToken: Token);
        Assert.Equal([new NbdExtent(0, 40L << 30, 3)], await MapOfAsync(client, Allocation));
    }

    [Fact]
    public async Task Commands_work_with_extended_headers()
    {
        NbdServer server = NbdServe("memory", "64M");
        await using NbdClient client = await NbdClient.ConnectAsync(
            server.Uri, new NbdClientOptions { ExtendedHeaders = true }, Token);
        Assert.True(client.Export.ExtendedHeaders);
        byte[] written = Data.Random(20 << 20);
        await client.WriteAsync(12345, written, cancellationToken: Token);
        byte[] read = new byte[written.Length];
        await client.ReadAsync(12345, read, Token);
        Assert.True(written.AsSpan().SequenceEqual(read));

        await client.TrimAsync(1 << 20, 1 << 20, cancellationToken: Token);
        await client.CacheAsync(0, 64 << 20, Token);
        await client.FlushAsync(Token);
        await client.WriteZeroesAsync(12345, written.Length, cancellationToken: Token);
        await client.ReadAsync(12345, read, Token);
        Assert.Equal(-1, read.AsSpan().IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public async Task A_huge_export_is_one_extent()
    {
        NbdServer server = NbdServe("null", $"{long.MaxValue}");
        await using NbdClient client = await ConnectAsync(server.Uri, Allocation);

        Assert.Equal([new NbdExtent(0, long.MaxValue, 3)], await MapOfAsync(client, Allocation));
    }

    [Fact]
    public async Task Without_structured_replies_there_is_no_map()
    {
        NbdServer server = Nbdkit("--no-sr", "memory", "1M");
        await using NbdClient client = await ConnectAsync(server.Uri, Allocation);

        Assert.Empty(client.Export.MetaContexts);
        NbdException exception =
            Assert.Throws<NbdException>(() => client.GetExtentsAsync(0, 1 << 20, cancellationToken: Token));
        Assert.Contains("no meta context 'base:allocation'", exception.Message);
    }

    private string NewImage(string format, string sizeOrBacking, params string[] commands)
    {
        string image = Folder.FileAt($"{Guid.NewGuid():N}.{format}");
        string[] backing = sizeOrBacking.StartsWith('/') ? ["-b", sizeOrBacking, "-F", "qcow2"] : [];
        Tool.Run("qemu-img", ["create", "-q", "-f", format, .. backing, image, .. backing.Length == 0 ? [sizeOrBacking] : Array.Empty<string>()]);
        Tool.Run("qemu-io", ["-f", format, .. commands.SelectMany(command => new[] { "-c", command }), image]);
        return image;
    }

    private static async Task<List<NbdExtent>> AssertMapAsync(string uri, string context, int minimumExtents)
    {
        await using NbdClient client = await ConnectAsync(uri, context);
        Assert.Equal([context], client.Export.MetaContexts);
        List<NbdExtent> map = await MapOfAsync(client, context);
        Assert.Equal(MapOf(uri, context), map);
        Assert.InRange(map.Count, minimumExtents, int.MaxValue);
        return map;
    }

    private static Task<NbdClient> ConnectAsync(string uri, params string[] contexts) =>
        NbdClient.ConnectAsync(uri, new NbdClientOptions { MetaContexts = contexts }, Token);

    private static async Task<List<NbdExtent>> MapOfAsync(NbdClient client, string context)
    {
        List<NbdExtent> map = [];
        await foreach (NbdExtent extent in client.GetExtentsAsync(0, client.Export.SizeBytes, context, Token))
        {
            map.Add(extent);
        }

        return map;
    }

    /// <summary>What nbdinfo says, with equal neighbours made one.</summary>
    private static List<NbdExtent> MapOf(string uri, string context)
    {
        using JsonDocument json = JsonDocument.Parse(Tool.Run("nbdinfo", $"--map={context}", "--json", uri));
        List<NbdExtent> map = [];
        foreach (JsonElement element in json.RootElement.EnumerateArray())
        {
            NbdExtent extent = new(
                element.GetProperty("offset").GetInt64(),
                element.GetProperty("length").GetInt64(),
                element.GetProperty("type").GetUInt64());
            if (map.Count > 0 && map[^1].Flags == extent.Flags)
            {
                map[^1] = map[^1] with { Length = map[^1].Length + extent.Length };
            }
            else
            {
                map.Add(extent);
            }
        }

        return map;
    }
}
