using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Linux;
using Tmds.Linux;

namespace IntegrationTests;

/// <summary>What is read ahead is what was asked for, over servers that answer late.</summary>
public abstract class ReadAheadTests : IntegrationTest
{
    private const int PageBytes = 4096;

    [Theory]
    [InlineData(false, 4096)]
    [InlineData(false, 100_000)]
    [InlineData(false, (1 << 20) + 1)]
    [InlineData(true, 65_536)]
    [InlineData(true, 12_288)]
    [InlineData(true, 1 << 20)]
    public void Every_byte_of_a_distant_disk_is_right(bool direct, int readBytes)
    {
        const int SizeBytes = 24 << 20;
        NbdFuseMount mount = Mount(Distant("pattern", $"{SizeBytes}").Uri);
        using RawFile file = RawFile.Open(mount.File, direct ? LibC.O_DIRECT : 0);
        byte[] disk = Data.Pattern(0, SizeBytes);

        for (int offset = 0; offset < SizeBytes; offset += readBytes)
        {
            int length = Math.Min(readBytes, SizeBytes - offset);
            Assert.True(
                file.Read(offset, readBytes).AsSpan().SequenceEqual(disk.AsSpan(offset, length)), $"wrong data at {offset}");
        }

        Assert.InRange(Statistic(mount, "reads_answered_ahead"), 1, long.MaxValue);
        Assert.InRange(Statistic(mount, "read_ahead_bytes"), 0, 64 << 20);
        Wait.Until(() => Statistic(mount, "read_ahead_bytes") == 0, "the memory is given back");
    }

    [Fact]
    public void Two_streams_and_random_reads_between_get_their_own_data()
    {
        const int SizeBytes = 64 << 20;
        NbdFuseMount mount = Mount(Distant("pattern", $"{SizeBytes}").Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_DIRECT);
        Random random = new(4);

        for (int offset = 0; offset < SizeBytes / 8; offset += 64 << 10)
        {
            foreach (int at in new[] { offset, (SizeBytes / 2) + (2 * offset), random.Next((SizeBytes / PageBytes) - 16) * PageBytes })
            {
                Assert.Equal(Data.Pattern(at, 64 << 10), file.Read(at, 64 << 10));
            }
        }
    }

    [Fact]
    public void It_can_be_turned_off()
    {
        NbdFuseMount mount = Mount(
            new MountRequest { Options = ["--readahead=off"], Source = [Nbdkit("pattern", "8M").Uri] });

        Assert.Equal(Data.Pattern(0, 8 << 20), File.ReadAllBytes(mount.File));

        Assert.Equal(0, Statistic(mount, "reads_answered_ahead"));
        Assert.Equal(0, Statistic(mount, "read_ahead_bytes"));
    }

    [Fact]
    public void The_size_caps_the_memory()
    {
        NbdFuseMount mount = Mount(
            new MountRequest { Options = ["--readahead", "1M"], Source = [Distant("pattern", "16M").Uri] });
        using RawFile file = RawFile.Open(mount.File, LibC.O_RDONLY);

        for (int offset = 0; offset < 16 << 20; offset += 1 << 20)
        {
            Assert.Equal(Data.Pattern(offset, 1 << 20), file.Read(offset, 1 << 20));
            Assert.InRange(Statistic(mount, "read_ahead_bytes"), 0, 2 << 20);
        }

        Assert.InRange(Statistic(mount, "reads_answered_ahead"), 1, long.MaxValue);
    }

    /// <summary>
    /// Each page holds its version. Writers answer one after the other; a reader that starts after that must not see
    /// less. The reader uses direct I/O: what it sees came from us, not from the kernel's cache.
    /// </summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_stream_never_sees_less_than_what_was_written_before_it_read(bool directWriters)
    {
        const int Pages = 16384;
        const int ReadPages = 16;
        NbdFuseMount mount = Mount(Distant("memory", $"{Pages * PageBytes}").Uri);
        int[] written = new int[Pages];
        const int Enough = 20;
        using CancellationTokenSource stop = new(TimeSpan.FromSeconds(60));
        long begin = Stopwatch.GetTimestamp();
        TimeSpan look = TimeSpan.FromSeconds(4);
        int position = 0;
        Thread[] writers = [.. Enumerable.Range(0, 3).Select(i => new Thread(() => Write(i)))];
        Array.ForEach(writers, writer => writer.Start());
        long wrong = 0;
        using (RawFile file = RawFile.Open(mount.File, LibC.O_DIRECT))
        {
            while (!stop.IsCancellationRequested)
            {
                int first = position;
                int[] atLeast = written[first..(first + ReadPages)];
                byte[] data = file.Read((long)first * PageBytes, ReadPages * PageBytes);
                for (int i = 0; i < ReadPages; i++)
                {
                    wrong += BinaryPrimitives.ReadInt32LittleEndian(data.AsSpan(i * PageBytes)) < atLeast[i] ? 1 : 0;
                }

                Volatile.Write(ref position, (first + ReadPages) % Pages);
                if (Stopwatch.GetElapsedTime(begin) > look)
                {
                    // How often the reader meets a block that no writer has dropped is up to chance.
                    look += TimeSpan.FromSeconds(1);
                    if (Statistic(mount, "reads_answered_ahead") >= Enough)
                    {
                        stop.Cancel();
                    }
                }
            }
        }

        Array.ForEach(writers, writer => writer.Join());

        Assert.Equal(0, wrong);
        Assert.InRange(Statistic(mount, "reads_answered_ahead"), Enough, long.MaxValue);

        // Each writer has pages of its own, ahead of the reader, where the blocks are.
        void Write(int writer)
        {
            using RawFile file = RawFile.Open(mount.File, LibC.O_RDWR | (directWriters ? LibC.O_DIRECT : 0));
            Random random = new(writer);
            byte[] page = new byte[PageBytes];
            while (!stop.IsCancellationRequested)
            {
                int at = (Volatile.Read(ref position) + (random.Next(1000) * 3)) % (Pages - 3) / 3 * 3 + writer;
                BinaryPrimitives.WriteInt32LittleEndian(page, written[at] + 1);
                Assert.Equal(PageBytes, file.Write((long)at * PageBytes, page));
                Volatile.Write(ref written[at], written[at] + 1);
            }
        }
    }

    [Fact]
    public void What_another_mount_wrote_shows_within_the_promised_time_and_at_once_when_the_file_is_opened()
    {
        // What the manual promises, and as much again for a busy machine.
        TimeSpan promised = TimeSpan.FromSeconds(1);
        NbdServer server = Distant("memory", "16M");
        NbdFuseMount writing = Mount(new MountRequest { MountPoint = "a/disk", Source = [server.Uri] });
        NbdFuseMount reading = Mount(new MountRequest { MountPoint = "b/disk", Source = [server.Uri] });
        using RawFile writer = RawFile.Open(writing.File, LibC.O_RDWR | LibC.O_DIRECT);
        using RawFile reader = RawFile.Open(reading.File, LibC.O_DIRECT);
        byte version = 0;
        for (int round = 0; round < 3; round++)
        {
            int ahead = ReadUntilAhead(reader, reading, round * (4 << 20));

            byte[] page = Data.Filled(PageBytes, ++version);
            Assert.Equal(PageBytes, writer.Write(ahead, page));
            long start = Stopwatch.GetTimestamp();
            if (round == 2)
            {
                using RawFile opened = RawFile.Open(reading.File, LibC.O_DIRECT);
                Assert.Equal(page, opened.Read(ahead, PageBytes));
            }
            else
            {
                Wait.Until(() => reader.Read(ahead, PageBytes).AsSpan().SequenceEqual(page), "the change shows");
                Assert.InRange(Stopwatch.GetElapsedTime(start), TimeSpan.Zero, 2 * promised);
            }
        }
    }

    [Fact]
    public void A_bad_sector_ahead_of_a_reader_is_an_error_only_where_it_is()
    {
        const int SizeBytes = 4 << 20;
        const int Bad = (1 << 20) + (300 << 10);
        NbdServer server = Nbdkit(
            "eval",
            $"get_size=echo {SizeBytes}",
            "thread_model=echo parallel",
            $"pread=if [ $4 -le {Bad} ] && [ $(( $4 + $3 )) -gt {Bad} ]; then echo EIO bad sector >&2; exit 1; fi; head -c $3 /dev/zero");
        NbdFuseMount mount = Mount(server.Uri);
        using RawFile file = RawFile.Open(mount.File, LibC.O_DIRECT);
        List<int> failed = [];

        for (int offset = 0; offset < SizeBytes; offset += 32 << 10)
        {
            try
            {
                Assert.Equal(new byte[32 << 10], file.Read(offset, 32 << 10));
            }
            catch (LinuxException exception) when (exception.Errno == Errno.EIO)
            {
                failed.Add(offset);
            }
        }

        Assert.Equal([Bad / (32 << 10) * (32 << 10)], failed);
        Assert.InRange(Statistic(mount, "reads_answered_ahead"), 1, long.MaxValue);
    }

    [Fact]
    public void What_is_read_ahead_does_not_hold_up_the_end()
    {
        NbdServer server = Nbdkit("--filter=delay", "pattern", "64M", "rdelay=200ms");
        NbdFuseMount mount = Mount(server.Uri);
        using (RawFile file = RawFile.Open(mount.File, LibC.O_DIRECT))
        {
            _ = ReadUntilAhead(file, mount, 0);
        }

        server.Signal(LibC.SIGSTOP);
        mount.Stop(LibC.SIGTERM, TimeSpan.FromSeconds(9));
    }

    private NbdServer Distant(params string[] plugin) =>
        Nbdkit(["-t", "64", "--filter=delay", .. plugin, "rdelay=10ms", "wdelay=5ms"]);

    /// <summary>Reads from <paramref name="offset"/> on until READs are answered from blocks.</summary>
    /// <returns>A place ahead of the reader.</returns>
    private static int ReadUntilAhead(RawFile file, NbdFuseMount mount, int offset)
    {
        const int ReadBytes = 64 << 10;
        long before = Statistic(mount, "reads_answered_ahead");
        while (Statistic(mount, "reads_answered_ahead") == before)
        {
            _ = file.Read(offset, ReadBytes);
            offset += ReadBytes;
        }

        return offset + ReadBytes;
    }

    /// <summary>One of the counters that nbdfuse tells on SIGUSR1.</summary>
    private static long Statistic(NbdFuseMount mount, string name)
    {
        int before = Lines().Count();
        mount.Process.Signal(LibC.SIGUSR1);
        Wait.Until(() => Lines().Count() > before, "nbdfuse tells its statistics");
        return long.Parse(
            Counter(name).Match(Lines().Last()).Groups[1].Value, CultureInfo.InvariantCulture);

        IEnumerable<string> Lines() =>
            mount.Log.Split('\n')[..^1].Where(line => line.Contains("statistics:", StringComparison.Ordinal));
    }

    private static Regex Counter(string name) => new($" {name}=(\\d+)");
}

public sealed class ReadAheadOverDeviceTests : ReadAheadTests
{
    private protected override string Transport => Transports.Device;
}

public sealed class ReadAheadOverUringTests : ReadAheadTests
{
    private protected override string Transport => Transports.Uring;
}
