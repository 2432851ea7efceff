namespace IntegrationTests.NbdServeTests;

/// <summary>The programs in examples/, each run as its reader would, against libnbd's tools.</summary>
public sealed class ExamplesTests : IntegrationTest
{
    private ExampleServer? _example;

    [Fact]
    public void A_complete_server_is_read_and_written()
    {
        string uri = Start("complete-server.cs");
        byte[] data = Data.Random(1 << 20);
        File.WriteAllBytes(Folder.FileAt("image"), data);

        Tool.Run("nbdcopy", Folder.FileAt("image"), uri);
        Tool.Run("nbdcopy", uri, Folder.FileAt("copy"));

        Assert.Equal(data, File.ReadAllBytes(Folder.FileAt("copy")));
        Stop();
    }

    [Fact]
    public void The_export_name_is_the_content()
    {
        string uri = Start("export-name-server.cs", "hello%20w%C3%B6rld");

        Assert.Equal("12", Tool.Run("nbdinfo", "--size", uri).Trim());
        Tool.Run("nbdcopy", uri, Folder.FileAt("copy"));

        Assert.Equal("hello w\u00f6rld", File.ReadAllText(Folder.FileAt("copy")));
        Stop();
    }

    [Fact]
    public void The_export_name_is_the_content_in_base64()
    {
        byte[] content = Data.Random(600);
        string uri = Start("base64-server.cs", Uri.EscapeDataString(Convert.ToBase64String(content)));

        Tool.Run("nbdcopy", uri, Folder.FileAt("copy"));

        Assert.Equal(content, File.ReadAllBytes(Folder.FileAt("copy")));
        Assert.NotEqual(0, Tool.Try("nbdinfo", uri.Replace(":///", ":///!", StringComparison.Ordinal)).ExitCode);
        Stop();
    }

    [Theory]
    [InlineData("complete-server.cs")]
    [InlineData("export-name-server.cs")]
    [InlineData("base64-server.cs")]
    public void Each_is_shorter_than_25_lines(string name) =>
        Assert.InRange(File.ReadAllLines(Path.Combine(Repository.Root, "examples", name)).Length, 1, 24);

    private string Start(string name, string export = "")
    {
        _example = new(Background, name, Folder.FileAt("example.sock"));
        return _example.UriOf(export);
    }

    private void Stop() => _example!.Stop();
}
