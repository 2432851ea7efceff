using Linux;
using Nbd;
using Tmds.Linux;

namespace IntegrationTests;

/// <summary>What qemu-nbd says about an error of its disk reaches the caller of the library and the log of nbdfuse.</summary>
public sealed class ServerErrorTextTests : IntegrationTest
{
    private const string Said = "server said: writing to file failed";

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_library_tells_it()
    {
        await using NbdClient client = await NbdClient.ConnectAsync(FailingQemu("enospc", 28).Uri, cancellationToken: Token);
        NbdException exception = await Assert.ThrowsAsync<NbdException>(
            async () => await client.WriteAsync(4096, new byte[512], cancellationToken: Token));

        Assert.Equal(Errno.ENOSPC, exception.Errno);
        Assert.StartsWith("WRITE of 512 bytes at offset 4096 on nbd+unix:", exception.Message);
        Assert.EndsWith($": No space left on device; {Said}", exception.Message);
    }

    [Fact]
    public void Nbdfuse_tells_it_once()
    {
        NbdServer server = FailingQemu("eio", 5);
        NbdFuseMount mount = Mount(new MountRequest { Options = ["--cache=none"], Source = [server.Uri] });
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR))
        {
            for (int i = 0; i < 20; i++)
            {
                Assert.Equal(-LibC.EIO, file.Write(4096, Data.Random(4096)));
            }
        }

        mount.Unmount();
        Assert.Equal(
            $"nbdfuse: unix:{server.Socket}: WRITE of 4096 bytes at offset 4096: Input/output error; {Said}\n", mount.Log);
    }

    [Fact]
    public void Nbdfuse_tells_it_for_one_of_all_exports()
    {
        NbdServer server = FailingQemu("eio", 5, "-x", "a");
        Folder.Folder("exports");
        NbdFuseMount mount = Mount(new MountRequest
        {
            Options = ["--all", "--cache=none"],
            MountPoint = "exports",
            Source = [server.Uri],
        });
        using (RawFile file = RawFile.Open(Path.Combine(mount.MountPath, "a"), LibC.O_RDWR))
        {
            Assert.Equal(-LibC.EIO, file.Write(0, Data.Random(512)));
        }

        mount.Unmount();
        Assert.Equal(
            $"nbdfuse: {server.UriOf("a")}: WRITE of 512 bytes at offset 0: Input/output error; {Said}\n", mount.Log);
    }

    /// <summary>A server that fails each WRITE.</summary>
    private NbdServer FailingQemu(string name, int errno, params string[] options)
    {
        string image = Folder.FileAt($"{name}.img");
        File.WriteAllBytes(image, Data.Random(1 << 20));
        return QemuNbd(
            [
                .. options, "-e", "4", "--image-opts",
                $"driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={image},"
                + $"file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.errno={errno}",
            ]);
    }
}
