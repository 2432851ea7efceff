namespace IntegrationTests;

/// <summary>
/// Random operations of several threads against a model in memory (tests/exerciser), seconds for each kind of mount.
/// "make exercise" does the same for as long as one likes.
/// </summary>
public sealed class ExerciserTests : IntegrationTest
{
    private const int SizeBytes = 8 << 20;

    /// <summary>The smallest requests that servers take.</summary>
    private static readonly int[] s_minimumBlocks = [1, 512, 4096, 65536];

    private static readonly string s_program =
        Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../Exerciser", new DirectoryInfo(AppContext.BaseDirectory).Name, "exerciser"));

    /// <summary>Cache mode, smallest request that the server takes, transport.</summary>
    public static TheoryData<string, int, string> Mounts()
    {
        TheoryData<string, int, string> mounts = [];
        foreach (string cache in Offer.Modes("--cache", "none", "writethrough", "writeback"))
        {
            foreach (int block in s_minimumBlocks)
            {
                foreach (string transport in new[] { Transports.Device, Transports.Uring })
                {
                    mounts.Add(cache, block, transport);
                }
            }
        }

        return mounts;
    }

    public static TheoryData<string> Caches() => new(Offer.Modes("--cache", "none", "writethrough", "writeback"));

    /// <summary>Cache mode, transport.</summary>
    public static TheoryData<string, string> CachesOverEach() => new MatrixTheoryData<string, string>(
        Offer.Modes("--cache", "none", "writethrough", "writeback"), [Transports.Device, Transports.Uring]);

    [Theory]
    [MemberData(nameof(Mounts))]
    public void The_file_is_as_its_model(string cache, int block, string transport)
    {
        NbdServer server = Blocks(block);
        string[] options = [.. Offer.Argument("--cache", cache), .. Transports.Options(transport)];

        Exercise(options, cache, server, "--ops", "700");
    }

    [Theory]
    [MemberData(nameof(Caches))]
    public void A_file_of_an_odd_size_is_as_its_model(string cache) =>
        Exercise(Offer.Argument("--cache", cache), cache, Nbdkit("file", Image(odd: 1234)), "--ops", "1000");

    [Theory]
    [MemberData(nameof(Caches))]
    public void Our_own_server_holds_the_model(string cache) =>
        Exercise(Offer.Argument("--cache", cache), cache, NbdServe("file", Image()), "--ops", "1000");

    /// <summary>Threads write different parts of one block at one time: what one puts back must not undo what another wrote.</summary>
    [Theory]
    [MemberData(nameof(Caches))]
    public void Threads_that_share_blocks_do_not_harm_each_other(string cache)
    {
        NbdServer server = Blocks(s_minimumBlocks.Where(block => block <= 4096).Max());

        Exercise(
            Offer.Argument("--cache", cache), cache, server,
            "--ops", "700", "--threads", "8", "--granule", "64", "--max-length", "20000");
    }

    /// <summary>Without the kernel's cache all of a program's requests reach the server at one time, as they are.</summary>
    [Fact]
    public void Requests_that_are_not_cached_are_as_the_model() => Exercise(
        ["-o", "direct_io"], "none", Blocks(s_minimumBlocks.Max()),
        "--ops", "700", "--threads", "8", "--granule", "64", "--max-length", "100000");

    /// <summary>What is read ahead is late on this server, and others write meanwhile.</summary>
    [Theory]
    [MemberData(nameof(CachesOverEach))]
    public void Nothing_stale_is_read_ahead(string cache, string transport)
    {
        NbdServer server = Nbdkit("--filter=delay", "file", Image(), "rdelay=2ms");
        string[] readAhead = Offer.Has("--readahead") ? ["--readahead=4M"] : [];

        Exercise(
            [.. readAhead, .. Offer.Argument("--cache", cache), .. Transports.Options(transport)],
            cache, server, "--ops", "400", "--threads", "6");
    }

    [Fact]
    public void A_qcow2_image_holds_the_model_in_the_end()
    {
        string image = Folder.FileAt("disk.qcow2");
        Tool.Run("qemu-img", "create", "-q", "-f", "qcow2", image, $"{SizeBytes}");
        NbdFuseMount mount = Mount("--socket-activation", "qemu-nbd", "-f", "qcow2", image);

        Run(mount, "--ops", "1000");

        mount.Unmount();
        Tool.Run("qemu-img", "check", image);
        Assert.Contains("identical", Tool.Run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", Model, image));
    }

    /// <summary>The exerciser itself: a server that keeps nothing of what is written is found out.</summary>
    [Fact]
    public void A_server_that_loses_writes_is_noticed()
    {
        NbdServer server = Nbdkit("--filter=cow", "file", Image());
        NbdFuseMount mount = Mount(server.Uri);

        (int exitCode, string output) = Tool.Try(
            s_program, "--ops", "200", "--promise", "sync", "--backing", Folder.FileAt("image"), mount.File);

        Assert.Equal(1, exitCode);
        Assert.Contains("the backing image", output);
    }

    /// <summary>A server that takes data for holes is found out, too.</summary>
    [Fact]
    public void A_server_that_claims_holes_where_there_is_data_is_noticed()
    {
        string image = Image();
        NbdServer server = Nbdkit(
            "eval",
            $"get_size=echo {SizeBytes}",
            $"pread=dd if={image} bs=1M iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
            $"pwrite=dd of={image} bs=1M oflag=seek_bytes seek=$4 conv=notrunc status=none",
            $"extents=echo 0 {SizeBytes} hole,zero",
            "can_extents=exit 0");
        NbdFuseMount mount = Mount(server.Uri);

        (int exitCode, string output) = Tool.Try(
            s_program, "--ops", "500", "--threads", "1", "--max-length", "4096", "--without", "punch,zero,allocate", mount.File);

        Assert.Equal(1, exitCode);
        Assert.Contains("a hole is claimed", output);
    }

    private string Model => Folder.FileAt("model");

    private string Image(int odd = 0)
    {
        string path = Folder.FileAt("image");
        using FileStream file = File.Create(path);
        // Data and holes to begin with.
        for (int place = 0; place < SizeBytes; place += 1 << 20)
        {
            file.Position = place;
            file.Write(Data.Random(300_000, place));
        }

        file.SetLength(SizeBytes + odd);
        return path;
    }

    private NbdServer Blocks(int minimum) => Nbdkit(
        "--filter=blocksize-policy", "file", Image(), $"blocksize-minimum={minimum}", "blocksize-preferred=65536",
        "blocksize-maximum=32M", "blocksize-error-policy=error");

    private void Exercise(string[] options, string cache, NbdServer server, params string[] arguments)
    {
        string image = Folder.FileAt("image");
        NbdFuseMount mount = Mount(new MountRequest { Options = options, Source = [server.Uri] });

        // In writeback mode a write beyond the end is refused late (nbdfuse(1), CACHE MODES).
        string[] mode = cache == "writeback" ? ["--promise", "sync", "--without", "overrun,append"] : ["--promise", "write"];
        Run(mount, ["--backing", image, .. mode, .. arguments]);

        mount.Unmount();
        Tool.Run("cmp", image, Model);
    }

    private void Run(NbdFuseMount mount, params string[] arguments)
    {
        string output = Tool.Run(s_program, ["--save-model", Model, .. arguments, mount.File]);
        Assert.Contains("all as in the model", output);
    }
}
