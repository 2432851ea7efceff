using Linux;
using Nbd.Protocol;
using Tmds.Linux;

namespace IntegrationTests;

/// <summary>An error of the server reaches the program as the error number that it is.</summary>
public abstract class ServerErrorTests : IntegrationTest
{
    // fallocate(2): FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, and FALLOC_FL_ZERO_RANGE.
    private const int Punch = 3;
    private const int Zero = 0x10;
    private const uint NoSpace = 28;
    private const uint ShuttingDown = 108;

    /// <summary>
    /// The error numbers of the wire (proto.md, "Error values"), and what programs get. ESHUTDOWN is not about a command
    /// but the end of the connection.
    /// </summary>
    public static TheoryData<uint, int> Errors => new()
    {
        { 1, LibC.EPERM },
        { 5, LibC.EIO },
        { 12, LibC.ENOMEM },
        { 22, LibC.EINVAL },
        { 28, LibC.ENOSPC },
        { 75, LibC.EOVERFLOW },
        { 95, LibC.EOPNOTSUPP },
    };

    [Theory]
    [MemberData(nameof(Errors))]
    public void Each_operation_fails_with_the_servers_error_and_succeeds_again_after_it(uint number, int error)
    {
        using FailingServer server = new(Folder.FileAt("socket"));
        NbdFuseMount mount = MountFailing(server, "writethrough");
        byte[] data = Data.Random(4096);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        using RawFile direct = RawFile.Open(mount.File, LibC.O_RDWR | LibC.O_DIRECT);

        server.Answer(_ => number);
        Assert.Equal(error, (int)Assert.Throws<LinuxException>(() => file.Read(0, 4096)).Errno);
        Assert.Equal(error, (int)Assert.Throws<LinuxException>(() => direct.Read(0, 4096)).Errno);
        Assert.Equal(-error, file.Write(4096, data));
        Assert.Equal(-error, direct.Write(4096, data));
        Assert.Equal(-error, file.Fsync());
        Assert.Equal(-error, file.Fdatasync());
        // Where the server cannot zero, zeroes are written.
        Assert.Equal(-error, file.Fallocate(Punch, 8192, 65536));
        Assert.Equal(-error, file.Fallocate(Zero, 8192, 65536));

        server.Answer(_ => 0);
        Assert.Equal(4096, file.Read(0, 4096).Length);
        Assert.Equal(4096, file.Write(4096, data));
        Assert.Equal(0, file.Fsync());
        Assert.Equal(0, file.Fallocate(Punch, 8192, 65536));
        Assert.False(mount.Process.HasExited, "nbdfuse is gone");
    }

    [Theory]
    [MemberData(nameof(Errors))]
    public void Without_the_kernels_cache_the_same(uint number, int error)
    {
        using FailingServer server = new(Folder.FileAt("socket"));
        NbdFuseMount mount = MountFailing(server, "none");
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);

        server.Answer(_ => number);

        Assert.Equal(error, (int)Assert.Throws<LinuxException>(() => file.Read(0, 4096)).Errno);
        Assert.Equal(-error, file.Write(4096, Data.Random(4096)));
        Assert.Equal(-error, file.Fsync());
        server.Answer(_ => 0);
        Assert.Equal(0, file.Fsync());
    }

    [Fact]
    public void A_server_that_is_shutting_down_is_told_of_and_gives_eio_from_then_on()
    {
        using FailingServer server = new(Folder.FileAt("socket"));
        NbdFuseMount mount = Mount(new MountRequest { Options = ["--cache=none", "-C", "1"], Source = [server.Uri] });
        server.Answer(_ => ShuttingDown);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR))
        {
            Assert.Equal(-LibC.ESHUTDOWN, file.Write(4096, Data.Random(4096)));
            Assert.Equal(-LibC.EIO, file.Write(4096, Data.Random(4096)));
            Assert.Equal(Errno.EIO, Assert.Throws<LinuxException>(() => file.Read(0, 4096)).Errno);
        }

        Wait.Until(() => mount.Log.Contains("the server is shutting down", StringComparison.Ordinal), "the loss is told");
        mount.Unmount(exitCode: 1);
    }

    /// <summary>What was written when it failed is told once to each who has the file open, as for a local file.</summary>
    [Theory]
    [InlineData(1, 1)]
    [InlineData(5, 5)]
    [InlineData(28, 28)]
    public void A_failed_writeback_shows_at_fsync_once_for_each_open_file(uint number, int error)
    {
        using FailingServer server = new(Folder.FileAt("socket"));
        NbdFuseMount mount = MountFailing(server, "writeback");
        using RawFile writer = RawFile.Open(mount.File, LibC.O_RDWR);
        using RawFile other = RawFile.Open(mount.File, LibC.O_RDWR);
        server.Answer(type => type == NbdCommandType.Write ? number : 0);

        Assert.Equal(4096, writer.Write(0, Data.Random(4096)));

        Assert.Equal(-error, writer.Fsync());
        Assert.Equal(-error, other.Fsync());
        Assert.Equal(0, writer.Fsync());
        Assert.Equal(0, other.Fsync());
    }

    [Fact]
    public void A_failed_writeback_of_a_mapping_shows_at_msync()
    {
        using FailingServer server = new(Folder.FileAt("socket"));
        NbdFuseMount mount = MountFailing(server, "writethrough");
        server.Answer(type => type == NbdCommandType.Write ? NoSpace : 0);

        (int exitCode, string output) = Tool.Try(
            "python3",
            "-c",
            "import mmap,os,sys\nm=mmap.mmap(os.open(sys.argv[1],os.O_RDWR),4096)\nm[0]=7\nm.flush()",
            mount.File);

        Assert.NotEqual(0, exitCode);
        Assert.Contains("No space left", output);
    }

    private NbdFuseMount MountFailing(FailingServer server, string cache) =>
        Mount(new MountRequest { Options = [$"--cache={cache}"], Source = [server.Uri] });
}

public sealed class ServerErrorOverDeviceTests : ServerErrorTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class ServerErrorOverUringTests : ServerErrorTests
{
    private protected override string Transport => Transports.Uring;
}
