namespace IntegrationTests;

public sealed class SourceTests : IntegrationTest
{
    [Fact]
    public void A_unix_uri_names_the_server()
    {
        NbdServer server = Nbdkit("pattern", "1M");

        NbdFuseMount mount = Mount(server.Uri);

        Assert.Equal(Data.Pattern(0, 1 << 20), File.ReadAllBytes(mount.File));
    }
}
