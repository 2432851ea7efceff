using Tmds.Linux;

namespace IntegrationTests;

/// <summary>Servers that refuse requests that are not whole blocks.</summary>
public sealed class MinimumBlockTests : IntegrationTest
{
    private const int SizeBytes = 4 << 20;

    [Theory]
    [InlineData(512, true)]
    [InlineData(4096, true)]
    [InlineData(65536, true)]
    [InlineData(65536, false)]
    public void Any_range_can_be_read_written_and_zeroed(int block, bool direct)
    {
        byte[] model = Data.Random(SizeBytes);
        NbdFuseMount mount = MountBlocks(block, model, direct);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR))
        {
            Random random = new(block);
            for (int i = 0; i < 100; i++)
            {
                int length = random.Next(1, 200_000);
                int offset = random.Next(SizeBytes - length);
                if (i % 4 == 0)
                {
                    Assert.Equal(0, file.Fallocate(LibC.FALLOC_FL_KEEP_SIZE | LibC.FALLOC_FL_PUNCH_HOLE, offset, length));
                    model.AsSpan(offset, length).Clear();
                }
                else
                {
                    byte[] data = Data.Random(length, i);
                    Assert.Equal(length, file.Write(offset, data));
                    data.CopyTo(model, offset);
                }

                int start = Math.Max(0, offset - 1000);
                Assert.True(file.Read(start, length + 500).AsSpan()
                    .SequenceEqual(model.AsSpan(start, Math.Min(length + 500, SizeBytes - start))));
            }

            Assert.Equal(0, file.Fsync());
        }

        mount.Unmount();
        Assert.True(File.ReadAllBytes(Folder.FileAt("image")).AsSpan().SequenceEqual(model));
    }

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    [InlineData(65536)]
    public void Writers_that_share_blocks_do_not_undo_each_other(int block)
    {
        const int Writers = 8;
        const int Part = 1000;
        const int Rounds = 60;
        NbdFuseMount mount = MountBlocks(block, new byte[SizeBytes], direct: true);
        Parallel.For(0, Writers, new ParallelOptions { MaxDegreeOfParallelism = Writers }, writer =>
        {
            using RawFile file = RawFile.Open(mount.File, LibC.O_WRONLY);
            byte[] data = Data.Filled(Part, (byte)(writer + 1));
            for (int round = 0; round < Rounds; round++)
            {
                Assert.Equal(Part, file.Write(((round * Writers) + writer) * Part, data));
            }
        });

        mount.Unmount();
        byte[] image = File.ReadAllBytes(Folder.FileAt("image"));
        for (int i = 0; i < Writers * Rounds * Part; i++)
        {
            Assert.True(image[i] == (i / Part % Writers) + 1, $"byte {i} is {image[i]}");
        }
    }

    [Fact]
    public void A_size_that_is_not_whole_blocks_is_rounded_down_with_one_warning()
    {
        byte[] content = Data.Random(SizeBytes + 1234);
        NbdFuseMount mount = MountBlocks(4096, content, direct: true);

        Assert.Equal(SizeBytes, new FileInfo(mount.File).Length);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR))
        {
            Assert.Equal(content[^(1234 + 100)..^1234], file.Read(SizeBytes - 100, 4096));
            Assert.Equal(100, file.Write(SizeBytes - 100, Data.Filled(200, 1)));
        }

        mount.Unmount();
        Assert.Single(mount.Log.Split('\n'), line => line.Contains("the last 1234 bytes", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(512, "4096\n")]
    [InlineData(65536, "65536\n")]
    public void The_file_system_has_blocks_of_the_minimum_size(int block, string shown)
    {
        NbdFuseMount mount = MountBlocks(block, Data.Random(SizeBytes), direct: false);

        Assert.Equal(shown, Tool.Run("stat", "-f", "-c", "%S", mount.File));
    }

    /// <summary>The largest payload is less than a usual block of read-ahead, or no multiple of a page.</summary>
    [Theory]
    [InlineData(512, 1536)]
    [InlineData(512, 131584)]
    [InlineData(4096, 4096)]
    [InlineData(65536, 65536)]
    public void A_server_that_takes_little_at_once_is_read_and_written(int minimum, int maximum)
    {
        byte[] content = Data.Random(SizeBytes);
        NbdFuseMount mount = MountBlocks(minimum, content, direct: false, Math.Max(minimum, 512), maximum);

        Assert.True(File.ReadAllBytes(mount.File).AsSpan().SequenceEqual(content));
        using (RawFile file = RawFile.Open(mount.File, LibC.O_RDWR))
        {
            byte[] data = Data.Random(300_000);
            Assert.Equal(data.Length, file.Write(12_345, data));
            data.CopyTo(content, 12_345);
            Assert.Equal(0, file.Fsync());
        }

        mount.Unmount();
        Assert.True(File.ReadAllBytes(Folder.FileAt("image")).AsSpan().SequenceEqual(content));
    }

    [Fact]
    public void The_preferred_size_is_what_stat_shows()
    {
        NbdFuseMount mount = MountBlocks(4096, new byte[SizeBytes], direct: false);

        Assert.Equal("65536", Tool.Run("stat", "-c", "%o", mount.File).Trim());
    }

    private NbdFuseMount MountBlocks(
        int minimum, byte[] content, bool direct, int preferred = 65536, int maximum = 32 << 20)
    {
        string image = Folder.FileAt("image");
        File.WriteAllBytes(image, content);
        NbdServer server = Nbdkit(
            "--filter=blocksize-policy", "file", image, $"blocksize-minimum={minimum}", $"blocksize-preferred={preferred}",
            $"blocksize-maximum={maximum}", "blocksize-error-policy=error");
        return Mount(new MountRequest { Options = direct ? ["-o", "direct_io"] : [], Source = [server.Uri] });
    }
}
