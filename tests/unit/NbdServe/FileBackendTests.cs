using Linux;
using Nbd;
using NbdServe;
using Tmds.Linux;

namespace UnitTests.NbdServeTests;

public sealed class FileBackendTests : IDisposable
{
    private const int Size = 1 << 20;

    private readonly string _folder = Directory.CreateTempSubdirectory("nbdserve-test-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Image => Path.Combine(_folder, "image");

    [Fact]
    public void What_is_read_and_written_is_the_file()
    {
        byte[] expected = BackendRig.Random(Size);
        File.WriteAllBytes(Image, expected);
        using Export export = Open();
        NbdBackend backend = export.Open();
        Assert.Equal(expected, backend.Read(0, Size));

        byte[] data = BackendRig.Random(70_000, 2);
        backend.Write(12_345, data, isDurable: true);

        data.CopyTo(expected, 12_345);
        Assert.Equal(expected, File.ReadAllBytes(Image));
        Assert.Equal(expected, backend.Read(0, Size));
    }

    [Theory]
    [InlineData(NbdZeroOptions.None, "65536:d 131072:h 851968:d")]
    [InlineData(NbdZeroOptions.Fast, "65536:d 131072:h 851968:d")]
    [InlineData(NbdZeroOptions.ForceUnitAccess, "65536:d 131072:h 851968:d")]
    public void Zeroes_are_holes(NbdZeroOptions options, string extents)
    {
        byte[] expected = BackendRig.Random(Size);
        File.WriteAllBytes(Image, expected);
        using Export export = Open();
        NbdBackend backend = export.Open();

        backend.Zero(65536, 131072, options);

        Array.Clear(expected, 65536, 131072);
        Assert.Equal(expected, File.ReadAllBytes(Image));
        Assert.Equal(extents, backend.Extents(0, Size));
    }

    [Fact]
    public void Zeroes_without_a_hole_keep_the_blocks()
    {
        File.WriteAllBytes(Image, BackendRig.Random(Size));
        using Export export = Open();

        export.Open().Zero(0, Size, NbdZeroOptions.NoHole);

        Assert.All(File.ReadAllBytes(Image), b => Assert.Equal(0, b));
    }

    [Fact]
    public void A_created_file_is_one_hole_and_stays_only_if_the_server_started()
    {
        using (Export export = Open(createBytes: Size))
        {
            Assert.Equal($"{Size}:h", export.Open().Extents(0, Size));
        }

        Assert.False(File.Exists(Image));
        using (Export export = Open(createBytes: Size))
        {
            export.Keep();
        }

        Assert.Equal(Size, new FileInfo(Image).Length);
    }

    [Fact]
    public void What_exists_is_not_created()
    {
        File.WriteAllText(Image, "precious");

        LinuxException refused = Assert.Throws<LinuxException>(() => Open(createBytes: Size));

        Assert.Equal(Errno.EEXIST, refused.Errno);
        Assert.Contains(Image, refused.Message);
        Assert.Equal("precious", File.ReadAllText(Image));
    }

    [Fact]
    public void A_directory_or_a_device_without_a_size_is_refused()
    {
        Assert.Throws<LinuxException>(() => OpenPath(_folder));
        Assert.Contains("neither", Assert.Throws<LinuxException>(() => OpenPath("/dev/null")).Message);
    }

    [Fact]
    public void Reading_a_file_that_became_shorter_is_an_error()
    {
        File.WriteAllBytes(Image, new byte[Size]);
        using Export export = Open();
        NbdBackend backend = export.Open();
        File.WriteAllBytes(Image, new byte[1000]);

        LinuxException failed = Assert.Throws<LinuxException>(() => backend.Read(0, 4096));

        Assert.Equal(Errno.EIO, failed.Errno);
    }

    [Fact]
    public void A_read_only_file_is_never_changed()
    {
        File.WriteAllBytes(Image, new byte[Size]);
        using Export export = Export.Create(
            new("", new BackendArguments { Kind = "file", Path = Image }), isReadOnly: true);

        Assert.True(export.Open().Capabilities.HasFlag(NbdBackendCapabilities.ReadOnly));
        Assert.Throws<LinuxException>(() => export.Open().Write(0, [1]));
    }

    [Fact]
    public void What_the_page_cache_lacks_is_read_from_the_disk()
    {
        byte[] expected = BackendRig.Random(4 * Size);
        File.WriteAllBytes(Image, expected);
        using NbdServe.Backends.OpenFile file = NbdServe.Backends.OpenFile.Open(Image, isReadOnly: false);
        NbdServe.Backends.FileOperationPool operations = new(file);
        NbdServe.Backends.FileBackend backend = new(file, operations);
        file.Flush();
        Assert.Equal(0, LibC.posix_fadvise(file.Fd.Fd, 0, 0, LibC.POSIX_FADV_DONTNEED));

        Assert.Equal(expected, backend.Read(0, 4 * Size));

        Assert.True(operations.IdleCount > 0, "nothing was read on the thread pool");
    }

    [Fact]
    public async Task Reads_that_wait_for_the_disk_allocate_nothing_for_each()
    {
        File.WriteAllBytes(Image, BackendRig.Random(Size));
        using NbdServe.Backends.OpenFile file = NbdServe.Backends.OpenFile.Open(Image, isReadOnly: false);
        NbdServe.Backends.FileOperationPool operations = new(file);
        byte[] data = new byte[4096];
        for (int i = 0; i < 100; i++)
        {
            await operations.ReadAsync(4096, data);
            await operations.FlushAsync();
        }

        Assert.Equal(File.ReadAllBytes(Image)[4096..8192], data);
        Assert.True(operations.IdleCount is > 0 and < 5, $"{operations.IdleCount} operations");
    }

    [Fact]
    public void Requests_that_the_page_cache_answers_allocate_nothing()
    {
        byte[] data = BackendRig.Random(4096);
        File.WriteAllBytes(Image, BackendRig.Random(Size));
        using NbdServe.Backends.OpenFile file = NbdServe.Backends.OpenFile.Open(Image, isReadOnly: false);
        NbdServe.Backends.FileBackend backend = new(file, new(file));
        NbdExtentList extents = new();
        Func<bool> isQuick = () => !file.IsSlow;

        BackendRig.AssertAllocatesNothing(Exercise);

        // As a READ does that sends holes as holes. The page was just written, so the read waits for nothing.
        void Exercise()
        {
            // A write that a busy machine interrupts for long looks like a slow disk's: the next ones go to the thread pool.
            SpinWait.SpinUntil(isQuick);
            ValueTask write = backend.WriteAsync(8192, data, false, CancellationToken.None);
            Assert.True(write.IsCompletedSuccessfully);
            extents.Begin(data.Length, 30, isOptional: true);
            ValueTask extentsTask = backend.ExtentsAsync(8192, data.Length, extents, CancellationToken.None);
            Assert.True(extentsTask.IsCompletedSuccessfully);
            ValueTask read = backend.ReadAsync(8192, data, CancellationToken.None);
            Assert.True(read.IsCompletedSuccessfully);
        }
    }

    private Export Open(long? createBytes = null) => OpenPath(Image, createBytes);

    private static Export OpenPath(string path, long? createBytes = null) => Export.Create(
        new("", new BackendArguments { Kind = "file", Path = path, CreateBytes = createBytes }), isReadOnly: false);
}
