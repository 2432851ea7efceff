using System.Collections.Concurrent;
using System.Diagnostics;
using System.Security.Cryptography;
using Fuse;
using Linux;

namespace UnitTests.FuseTests;

/// <summary>
/// Real mounts. Only child processes touch them: this process has to answer, so it must never wait for itself.
/// </summary>
public sealed class RealMountTests : IDisposable
{
    private const int Size = (3 << 20) + 123;

    // A busy machine takes seconds to start some hundred programs.
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    private readonly string _folder = Directory.CreateTempSubdirectory("fuse-test-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void A_mounted_file_is_read_and_written_by_programs(bool isFile, bool cloneDevice)
    {
        using Served served = Serve(isFile, new FuseSessionOptions { Workers = 3, CloneDevice = cloneDevice });
        string file = served.File;
        Random.Shared.NextBytes(served.FileSystem.Data);

        Assert.Equal($"{Size}", Run("stat", "-c", "%s", file));
        Assert.StartsWith(Convert.ToHexStringLower(SHA256.HashData(served.FileSystem.Data)), Run("sha256sum", file));
        Run("dd", "if=/dev/zero", "of=" + file, "bs=1M", "seek=1", "count=1", "conv=notrunc,fsync", "status=none");
        Assert.Equal(-1, served.FileSystem.Data.Slice(1 << 20, 1 << 20).IndexOfAnyExcept((byte)0));
        Run("dd", "if=" + file, "of=/dev/null", "bs=1M", "iflag=direct", "status=none");
        Assert.True(served.Session.RequestsServed > 0);
        Assert.True(served.Session.RequestsAllocated < 100);
        if (!isFile)
        {
            Assert.Equal("disk", Run("ls", served.Mount.Mountpoint));
        }

        served.Mount.Unmount(lazy: false);
        Assert.True(served.Session.WaitForEnd(TimeSpan.FromSeconds(10)));
        Assert.Null(served.Session.Fault);
        Assert.Equal(0, served.Session.InFlight);
        served.Mount.Unmount(lazy: false);
        Assert.Empty(served.Warnings);
    }

    [Fact]
    public void A_busy_mount_is_unmounted_only_lazily_and_serves_on_until_the_last_close()
    {
        using Served served = Serve(isFile: true, new FuseSessionOptions());
        using Process holder = Process.Start(new ProcessStartInfo("sh")
        {
            ArgumentList = { "-c", "exec 3<" + served.File + "; echo open; read line; head -c 5 <&3 | wc -c" },
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        Assert.Equal("open", holder.StandardOutput.ReadLine());

        Assert.Equal(
            Errno.EBUSY,
            Assert.Throws<LinuxException>(() => served.Mount.Unmount(lazy: false)).Errno);
        served.Mount.Unmount(lazy: true);
        Assert.False(served.Session.WaitForEnd(TimeSpan.Zero));
        holder.StandardInput.WriteLine();
        Assert.Equal("5", holder.StandardOutput.ReadLine()!.Trim());
        Assert.True(served.Session.WaitForEnd(TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void A_file_mount_that_was_told_its_size_is_read_while_its_first_write_is_stuck()
    {
        // With default_permissions the kernel asks for the attributes at the first open, and so knows the size.
        using Served served = Serve(isFile: true, new FuseSessionOptions(), defaultPermissions: false);
        using ManualResetEventSlim held = new();
        FuseRequest? write = null;
        served.FileSystem.HeldWrite = request =>
        {
            write = request;
            held.Set();
        };

        Assert.Equal(Errno.None, served.Session.NotifySize(1, Size));
        using Process writer = Process.Start(
            "dd", ["if=/dev/zero", "of=" + served.File, "bs=4096", "count=1", "conv=notrunc", "status=none"]);
        held.Wait(TestContext.Current.CancellationToken);
        string read = Run("sh", "-c", $"dd if={served.File} bs=4096 skip=16 count=1 status=none | wc -c");
        write!.ReplyWritten(4096);
        writer.WaitForExit();

        Assert.Equal("4096", read);
    }

    /// <summary>All on one processor, so that one of the kernel's queues gets everything.</summary>
    [Theory]
    [InlineData(1 << 20)]
    [InlineData(16 << 20)]
    public void Background_requests_that_hang_leave_a_ring_entries_for_what_does_not(int largestRequest)
    {
        Assert.SkipUnless(FuseSession.IsUringEnabled, "no FUSE over io_uring here");
        using RingSet rings = new("test");
        _ = rings.Get(0);
        using Served served = Serve(isFile: false, new FuseSessionOptions { Rings = rings, MaxRequestBytes = largestRequest });
        Assert.True(served.Session.IsUring, served.Session.UringRefusal);
        int background = served.Session.Limits.MaxBackground;
        ConcurrentBag<FuseRequest> held = [];
        served.FileSystem.HeldRead = held.Add;

        // Direct READs of a file that is cached otherwise are background requests.
        using Process readers = Process.Start(
            "taskset",
            ["-c", $"{ProcessorSet.Online()[0]}", "sh", "-c",
                $"for i in $(seq {background}); do dd if={served.File} of=/dev/null bs=4096 count=1 skip=$i iflag=direct status=none 2>/dev/null & done; wait"]);
        bool areAllHere = SpinWait.SpinUntil(() => held.Count == background, s_limit);
        string listing = areAllHere
            ? Run("taskset", "-c", $"{ProcessorSet.Online()[0]}", "timeout", $"{s_limit.TotalSeconds}", "ls", served.Mount.Mountpoint)
            : "";
        served.FileSystem.HeldRead = null;
        foreach (FuseRequest request in held)
        {
            request.ReplyError(Errno.EIO);
        }

        readers.WaitForExit();
        Assert.True(areAllHere, $"{held.Count} of {background} background requests came: the others wait in a full queue");
        Assert.Equal("disk", listing);
    }

    [Fact]
    public void A_mount_without_its_daemon_is_seen_as_dead_and_can_be_cleaned()
    {
        FuseMount mount = FuseMount.Create(_folder, new FuseMountOptions { Source = "a,b\\c d", Subtype = "test" });
        Assert.Contains("a,b\\134c\\040d", File.ReadAllText("/proc/self/mounts"));
        mount.Dispose();

        Assert.True(FuseMount.IsDeadMount(_folder));
        Assert.Contains(
            "daemon is gone",
            Assert.Throws<LinuxException>(() => FuseMount.Create(
                _folder, new FuseMountOptions { Source = "x", Subtype = "test" })).Message);
        FuseMount.CleanDeadMount(_folder);
        Assert.False(FuseMount.IsDeadMount(_folder));
    }

    private Served Serve(bool isFile, FuseSessionOptions options, bool defaultPermissions = true)
    {
        if (!File.Exists("/dev/fuse"))
        {
            Assert.Skip("/dev/fuse is missing");
        }

        string mountpoint = Path.Combine(_folder, "mnt");
        if (isFile)
        {
            File.WriteAllText(mountpoint, "");
        }
        else
        {
            Directory.CreateDirectory(mountpoint);
        }

        return new Served(mountpoint, isFile, options, defaultPermissions);
    }

    private static string Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        string output = process.StandardOutput.ReadToEnd().Trim();
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program}: {errors}");
        return output;
    }

    private sealed class Served : IDisposable
    {
        public Served(string mountpoint, bool isFile, FuseSessionOptions options, bool defaultPermissions)
        {
            FileSystem = new MemoryFileSystem(Size, isFile);
            Mount = FuseMount.Create(mountpoint, new FuseMountOptions
            {
                Source = "memory",
                Subtype = "test",
                DefaultPermissions = defaultPermissions,
            });
            Session = new FuseSession(Mount, FileSystem, options with { Warn = Warnings.Add });
            File = isFile ? mountpoint : Path.Combine(mountpoint, "disk");
            Session.Initialize();
            Session.Start();
        }

        public List<string> Warnings { get; } = [];

        public FuseMount Mount { get; }

        public MemoryFileSystem FileSystem { get; }

        public FuseSession Session { get; }

        public string File { get; }

        public void Dispose()
        {
            Mount.Unmount(lazy: true);
            _ = Session.WaitForEnd(TimeSpan.FromSeconds(10));
            Session.Dispose();
            Mount.Dispose();
            FileSystem.Dispose();
        }
    }
}
