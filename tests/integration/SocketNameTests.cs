using Linux;
using Nbd;

namespace IntegrationTests;

/// <summary>The name that a server which we start finds its socket by (sd_listen_fds_with_names(3)).</summary>
public sealed class SocketNameTests : IntegrationTest
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string> Impossible => new("", "a:b", "a\nb", "\u00e4", "\u007f", new string('n', 256));

    [Theory]
    [InlineData("disk-1 ~")]
    [InlineData(null)]
    public async Task It_is_in_the_environment_of_the_server(string? name)
    {
        string seen = Folder.FileAt("seen");
        string[] command = ["bash", "-c", $"printf '%s' \"$LISTEN_FDNAMES\" > '{seen}'; exec nbdkit -f memory 1M"];
        NbdEndpoint.SocketActivation server = new(command);
        await using NbdClient client = await NbdClient.ConnectAsync(
            name is null ? server : server with { SocketName = name }, cancellationToken: Token);

        Assert.Equal(1 << 20, client.SizeBytes);
        Assert.Equal(name ?? "unknown", await File.ReadAllTextAsync(seen, Token));
    }

    [Fact]
    public async Task The_longest_name_reaches_the_server()
    {
        string name = new('n', 255);
        string seen = Folder.FileAt("seen");
        string[] command = ["bash", "-c", $"printf '%s' \"$LISTEN_FDNAMES\" > '{seen}'; exec nbdkit -f memory 1M"];
        NbdEndpoint server = new NbdEndpoint.SocketActivation(command) { SocketName = name };
        Assert.Equal(1 << 20, (await NbdClient.GetExportAsync(server, cancellationToken: Token)).SizeBytes);

        Assert.Equal(name, await File.ReadAllTextAsync(seen, Token));
    }

    [Theory]
    [InlineData("nbdkit")]
    [InlineData("qemu-nbd")]
    [InlineData("qemu-storage-daemon")]
    [InlineData("nbdserve")]
    public async Task Servers_that_do_not_look_at_it_serve_all_the_same(string server)
    {
        string image = Folder.FileAt("image");
        await File.WriteAllBytesAsync(image, new byte[1 << 20], Token);
        string[] command = server switch
        {
            "nbdkit" => ["nbdkit", "-f", "memory", "1M"],
            "qemu-nbd" => ["qemu-nbd", "-f", "raw", image],
            "qemu-storage-daemon" =>
            [
                "qemu-storage-daemon",
                "--blockdev", $"raw,node-name=disk,file.driver=file,file.filename={image}",
                "--nbd-server", "addr.type=fd,addr.str=3",
                "--export", "nbd,id=e0,node-name=disk,name=",
            ],
            _ => [Repository.NbdServe, "memory", "1M"],
        };

        NbdExport export = await NbdClient.GetExportAsync(
            new NbdEndpoint.SocketActivation(command) { SocketName = "disk" }, cancellationToken: Token);

        Assert.Equal(1 << 20, export.SizeBytes);
    }

    [Theory]
    [MemberData(nameof(Impossible))]
    public async Task What_cannot_be_a_name_is_refused_before_the_server_is_started(string name)
    {
        string started = Folder.FileAt("started");
        NbdEndpoint server = new NbdEndpoint.SocketActivation(["touch", started]) { SocketName = name };

        NbdException exception = await Assert.ThrowsAsync<NbdException>(
            () => NbdClient.ConnectAsync(server, cancellationToken: Token));

        Assert.Equal(Errno.EINVAL, exception.Errno);
        Assert.Contains("cannot be the name of its socket", exception.Message);
        Assert.False(File.Exists(started));
    }
}
