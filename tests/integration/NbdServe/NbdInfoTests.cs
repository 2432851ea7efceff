using System.Text.Json;

namespace IntegrationTests.NbdServeTests;

/// <summary>What clients are told about exports.</summary>
public sealed class NbdInfoTests : IntegrationTest
{
    private string Image => Folder.FileAt("image");

    [Theory]
    [InlineData("memory 1M", "rw flush fua trim zero fast_zero cache multi_conn df", 1 << 20)]
    [InlineData("file IMAGE", "rw flush fua trim zero fast_zero cache multi_conn df", 1_000_000)]
    [InlineData("null 9223372036854775807", "rw flush fua trim zero fast_zero cache multi_conn df", long.MaxValue)]
    [InlineData("pattern 1M", "cache multi_conn df", 1 << 20)]
    [InlineData("sparse-random 1T", "rw flush fua trim zero fast_zero cache multi_conn df", 1L << 40)]
    public void All_fields_are_told(string backend, string can, long size)
    {
        File.WriteAllBytes(Image, Data.Random(1_000_000));
        NbdServer server = NbdServe(backend.Replace("IMAGE", Image, StringComparison.Ordinal).Split(' '));

        using JsonDocument info = JsonDocument.Parse(Tool.Run("nbdinfo", "--json", server.Uri));

        Assert.Equal("newstyle-fixed", info.RootElement.GetProperty("protocol").GetString());
        Assert.False(info.RootElement.GetProperty("TLS").GetBoolean());
        Assert.True(info.RootElement.GetProperty("structured").GetBoolean());
        JsonElement export = info.RootElement.GetProperty("exports")[0];
        Assert.Equal(size, export.GetProperty("export-size").GetInt64());
        Assert.Equal("base:allocation", export.GetProperty("contexts")[0].GetString());
        Assert.Equal(!can.StartsWith("rw", StringComparison.Ordinal), export.GetProperty("is_read_only").GetBoolean());
        foreach (string name in (string[])["flush", "fua", "trim", "zero", "fast_zero", "cache", "multi_conn", "df"])
        {
            Assert.True(
                can.Split(' ').Contains(name) == export.GetProperty("can_" + name).GetBoolean(), $"{backend}: {name}");
        }

        Assert.Equal(1, export.GetProperty("block_size_minimum").GetInt32());
        Assert.Equal(4096, export.GetProperty("block_size_preferred").GetInt32());
    }

    [Fact]
    public void The_list_has_all_exports_with_their_descriptions()
    {
        NbdServer server = NbdServe(
            "memory", "1M", "--export", "disk", "--export", "big=sparse-random 1E", "--export", "a b=null 0");

        using JsonDocument info = JsonDocument.Parse(Tool.Run("nbdinfo", "--list", "--json", server.Uri));

        Assert.Equal(
            ["disk memory 1048576", "big sparse-random 1152921504606846976", "a b null 0"],
            info.RootElement.GetProperty("exports").EnumerateArray().Select(export =>
                $"{export.GetProperty("export-name").GetString()} {export.GetProperty("description").GetString()} "
                + $"{export.GetProperty("export-size").GetInt64()}"));
    }

    [Fact]
    public void Nbd_client_lists_the_exports()
    {
        int port = NbdServer.FreePort();
        BackgroundProcess server = LaunchNbdServe(
            "memory", "1M", "--export", "disk", "--export", "other=null 1", "--tcp", $"{port}");
        Wait.Until(() => server.Log.Contains($"nbd://localhost:{port}/disk", StringComparison.Ordinal), "the URI");

        string list = Tool.Run("nbd-client", "-l", "127.0.0.1", $"{port}");

        Assert.Equal("Negotiation: ..\ndisk: memory\nother: null", list.Trim());
    }

    [Fact]
    public void The_first_export_is_the_default_and_unknown_names_are_refused()
    {
        NbdServer server = NbdServe("--export", "first=null 1M", "--export", "second=null 2M");

        Assert.Equal("1048576", Tool.Run("nbdinfo", "--size", server.Uri).Trim());
        Assert.Equal("1048576", Tool.Run("nbdinfo", "--size", server.UriOf("first")).Trim());
        Assert.Equal("2097152", Tool.Run("nbdinfo", "--size", server.UriOf("second")).Trim());
        Assert.NotEqual(0, Tool.Try("nbdinfo", "--size", server.UriOf("third")).ExitCode);
    }

    [Fact]
    public void Nbdinfo_maps_holes_and_data()
    {
        NbdServer server = NbdServe("memory", "1M");
        Tool.Python(server.Uri, "h.pwrite(b'x' * 65536, 131072)");

        Assert.Equal(
            ["0 131072 3 hole,zero", "131072 65536 0 data", "196608 851968 3 hole,zero"],
            Tool.Run("nbdinfo", "--map", server.Uri).Trim().Split('\n')
                .Select(line => string.Join(' ', line.Split(' ', StringSplitOptions.RemoveEmptyEntries))));
    }

    [Fact]
    public void A_sparse_file_has_the_holes_of_the_file()
    {
        using (FileStream file = File.Create(Image))
        {
            file.SetLength(1 << 20);
            file.Position = 1 << 19;
            file.Write(Data.Random(65536));
        }

        NbdServer server = NbdServe("file", Image);

        using JsonDocument map = JsonDocument.Parse(
            Tool.Run("qemu-img", "map", "--output=json", "-f", "raw", server.Uri));
        Assert.Equal(
            [(0, false), (1 << 19, true), ((1 << 19) + 65536, false)],
            map.RootElement.EnumerateArray()
                .Select(extent => (extent.GetProperty("start").GetInt32(), extent.GetProperty("data").GetBoolean())));
        Assert.Contains("1 MiB (1048576 bytes)", Tool.Run("qemu-img", "info", "-f", "raw", server.Uri));
    }
}
