using Tmds.Linux;

namespace IntegrationTests;

/// <summary>SEEK_HOLE, SEEK_DATA and st_blocks tell what the server tells, and never a hole where data was written.</summary>
public abstract class HoleTests : IntegrationTest
{
    private const int PunchHole = 0x02 | 0x01;
    private const int ZeroRange = 0x10;
    private const long MiB = 1 << 20;

    public static TheoryData<string> Caches => ["none", "writethrough", "writeback"];

    public static TheoryData<string> WritableServers =>
    [
        "qcow2", "raw", "nbdkit memory 20G", "nbdkit file",
        "nbdkit --filter=blocksize-policy memory 1G blocksize-minimum=4096 blocksize-error-policy=error",
        "nbdserve memory 40G", "nbdserve file",
    ];

    public static TheoryData<string> Servers =>
    [
        .. WritableServers.Select(row => row.Data),
        "nbdkit sparse-random 256M seed=1 percent=30 runlength=65536", "nbdserve sparse-random 1T",
    ];

    [Theory]
    [MemberData(nameof(Servers))]
    public void Seeking_finds_the_extents_of_the_server(string kind)
    {
        NbdServer server = Serve(kind);
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);

        Assert.Equal(HoleMap.OfServer(server.Uri), HoleMap.Walk(file));
    }

    [Theory]
    [MemberData(nameof(WritableServers))]
    public void Writes_and_holes_of_ours_are_in_the_map(string kind)
    {
        NbdServer server = Serve(kind);
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        byte[] data = Data.Random(300_000, 5);
        for (int i = 1; i < 5; i++)
        {
            _ = HoleMap.Walk(file);
            Assert.Equal(data.Length, file.Write(i * 10 * MiB, data));
            Assert.Equal(0, file.Fallocate(PunchHole, (i * 10 * MiB) + 65536, 131_072));
            Assert.Equal(0, file.Fallocate(ZeroRange, (i * 10 * MiB) + 500_000, 65536));
            Assert.Equal(i * 10 * MiB, file.Seek(i * 10 * MiB, RawFile.SeekData));
        }

        // A write makes data of exactly what was written; the server may see whole blocks.
        (long Start, long End)[] expected = HoleMap.OfServer(server.Uri);
        foreach ((long start, long end) in HoleMap.Walk(file))
        {
            Assert.Contains(expected, extent => extent.Start <= start && end <= extent.End);
        }

        foreach (long place in Enumerable.Range(1, 4).Select(i => i * 10 * MiB))
        {
            Assert.Equal(data[..65536], file.Read(place, 65536));
            Assert.Equal(new byte[131_072], file.Read(place + 65536, 131_072));
        }
    }

    [Fact]
    public void A_server_that_does_not_tell_is_all_data()
    {
        string image = Image("raw");
        NbdFuseMount mount = Mount($"nbd://localhost:{ReferenceServer("x", image).Port}/x");
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);

        Assert.Equal([(0, 64 * MiB)], HoleMap.Walk(file));
        Assert.Equal(-LibC.ENXIO, file.Seek(64 * MiB, RawFile.SeekData));
        Assert.Equal(-LibC.ENXIO, file.Seek(64 * MiB, RawFile.SeekHole));
        Assert.Equal(64 * MiB, HoleMap.AllocatedBytes(mount.File));
    }

    [Fact]
    public void A_server_that_fails_to_tell_is_all_data()
    {
        NbdServer server = Nbdkit("--filter=error", "memory", "64M", "error-extents-rate=100%");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["-v"], Source = [server.Uri] });
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);

        Assert.Equal([(0, 64 * MiB)], HoleMap.Walk(file));
        Assert.Equal(64 * MiB, HoleMap.AllocatedBytes(mount.File));
        Assert.Equal(2, mount.Log.Split("does not tell where holes are").Length);
    }

    [Fact]
    public void Offsets_near_the_largest_work()
    {
        NbdServer server = Nbdkit("memory", "7E");
        Tool.Python(server.Uri, $"h.pwrite(b'x' * 65536, {(7L << 60) - 65536})");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);

        Assert.Equal((7L << 60) - 65536, file.Seek((7L << 60) - (1L << 34), RawFile.SeekData));
        Assert.Equal(7L << 60, file.Seek((7L << 60) - 1, RawFile.SeekHole));
        Assert.Equal(1L << 61, file.Seek(1L << 61, RawFile.SeekHole));
        Assert.True(HoleMap.AllocatedBytes(mount.File) > 0);
    }

    [Fact]
    public void The_allocated_size_follows_what_is_written_and_punched()
    {
        NbdFuseMount mount = Mount(Nbdkit("memory", "64M").Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        AllocatedBecomes(mount, bytes => bytes == 4096);

        Assert.Equal(MiB, file.Write(8 * MiB, Data.Random((int)MiB)));
        AllocatedBecomes(mount, bytes => bytes == MiB);
        Assert.Equal(0, file.Fallocate(PunchHole, 8 * MiB, MiB / 2));
        AllocatedBecomes(mount, bytes => bytes == MiB / 2);
        Assert.Equal(0, file.Fallocate(PunchHole, 0, 64 * MiB));
        AllocatedBecomes(mount, bytes => bytes == 4096);
    }

    /// <summary>What another client writes is seen after some seconds.</summary>
    [Fact]
    public void Data_of_another_client_is_found_in_the_end()
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);
        Assert.Empty(HoleMap.Walk(file));

        Tool.Python(server.Uri, "h.pwrite(b'x' * 65536, 131072)");

        Wait.Until(() => file.Seek(0, RawFile.SeekData) == 131_072, "the data of another client is found");
    }

    /// <summary>The server does not know of a page that is dirty in the kernel; whoever looks for data must find it.</summary>
    [Theory]
    [MemberData(nameof(Caches))]
    public void A_dirty_page_is_data(string cache)
    {
        NbdServer server = Nbdkit("memory", "1G");
        NbdFuseMount mount = Mount(new MountRequest { Options = [$"--cache={cache}"], Source = [server.Uri] });
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
        Assert.Empty(HoleMap.Walk(file));
        using (MappedPages pages = file.MapPages(512 * MiB, 16 * 4096))
        {
            pages.Bytes[(3 * 4096) + 17] = 1;
            Assert.Equal((512 * MiB) + (3 * 4096), file.Seek(0, RawFile.SeekData));
            pages.Bytes[5 * 4096] = 1;
            Assert.Equal(
                [((512 * MiB) + (3 * 4096), (512 * MiB) + (4 * 4096)), ((512 * MiB) + (5 * 4096), (512 * MiB) + (6 * 4096))],
                HoleMap.Walk(file, exactly: true));
            pages.Bytes[0] = 1;
            Assert.Equal(512 * MiB, file.Seek(0, RawFile.SeekData));
            Assert.Equal((512 * MiB) + 4096, file.Seek(512 * MiB, RawFile.SeekHole));
        }

        Assert.Equal(4096, file.Write(0, new byte[4096]));
        Assert.Equal(0, file.Seek(0, RawFile.SeekData));
    }

    /// <summary>Several write where there are holes and look at once whether their data is claimed to be one.</summary>
    [Theory]
    [MemberData(nameof(Caches))]
    public void Data_that_was_written_is_never_a_hole(string cache)
    {
        NbdServer server = Nbdkit("-t", "8", "--filter=delay", "memory", "1G", "delay-extents=3ms");
        NbdFuseMount mount = Mount(new MountRequest { Options = [$"--cache={cache}"], Source = [server.Uri] });
        const int Rounds = 60;
        const int Writers = 4;
        byte[] data = Data.Random(4096);
        Parallel.For(0, Writers, new ParallelOptions { MaxDegreeOfParallelism = Writers }, writer =>
        {
            using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR);
            for (int round = 0; round < Rounds; round++)
            {
                long place = ((writer * Rounds) + round) * MiB;
                if (writer == 0)
                {
                    // Has all be asked for again.
                    Assert.Equal(0, file.Fallocate(PunchHole, 900 * MiB, 64 * MiB));
                    _ = file.Seek(900 * MiB, RawFile.SeekData);
                    continue;
                }

                Assert.Equal(4096, file.Write(place, data));
                Assert.Equal(place, file.Seek(place, RawFile.SeekData));
                Assert.Equal(0, file.Fallocate(PunchHole, place, 4096));
                Assert.Equal(4096, file.Write(place, data));
                Assert.Equal(place, file.Seek(place, RawFile.SeekData));
            }
        });
    }

    [Fact]
    public void A_partition_has_its_own_holes()
    {
        NbdServer server = Nbdkit("memory", "64M");
        NbdFuseMount mount = Mount(new MountRequest { Options = ["--partitions"], Source = [server.Uri] });
        Tool.Run(
            "sh", "-c", $"printf 'label: dos\\nstart=2048, size=16384\\nstart=32768, size=16384\\n' | sfdisk --quiet {mount.File}");
        using RawFile disk = RawFile.Open(mount.File, LibC.O_RDWR);
        Assert.Equal(65536, disk.Write((16 * MiB) + MiB, Data.Random(65536)));
        using RawFile first = RawFile.Open(mount.File + ".p1", LibC.O_RDONLY);
        using RawFile second = RawFile.Open(mount.File + ".p2", LibC.O_RDWR);

        Assert.Empty(HoleMap.Walk(first));
        Assert.Equal([(MiB, MiB + 65536)], HoleMap.Walk(second));
        Wait.Until(() => HoleMap.AllocatedBytes(mount.File + ".p1") == 4096, "the first partition is all a hole");
        Wait.Until(() => HoleMap.AllocatedBytes(mount.File + ".p2") == 65536, "the second has some data");
    }

    private static void AllocatedBecomes(NbdFuseMount mount, Func<long, bool> isRight) => Wait.Until(
        () => isRight(HoleMap.AllocatedBytes(mount.File)), $"st_blocks is right, not {HoleMap.AllocatedBytes(mount.File)} bytes");

    private NbdServer Serve(string kind) => kind.Split(' ') switch
    {
        ["qcow2"] => QemuNbd("-e", "4", "-f", "qcow2", Image("qcow2")),
        ["raw"] => QemuNbd("-e", "4", "-f", "raw", Image("raw")),
        ["nbdkit", "file"] => Nbdkit("file", Image("raw")),
        ["nbdserve", "file"] => NbdServe("file", Image("raw")),
        ["nbdkit", .. string[] rest] => Nbdkit(rest),
        ["nbdserve", .. string[] rest] => NbdServe(rest),
        _ => throw new ArgumentException(kind),
    };

    private string Image(string format)
    {
        string image = Folder.FileAt($"image.{format}");
        Tool.Run("qemu-img", "create", "-q", "-f", format, image, "64M");
        Tool.Run(
            "qemu-io", "-f", format, "-c", "write -P 1 1M 64k", "-c", "write -P 2 5M 3M", "-c", "write -z -u 6M 1M", image);
        return image;
    }
}

public sealed class HoleTestsOverDevice : HoleTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class HoleTestsOverUring : HoleTests
{
    private protected override string Transport => Transports.Uring;
}
