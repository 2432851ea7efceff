using Linux;
using Nbd;
using NbdServe.Backends;

namespace UnitTests.NbdServeTests;

public sealed class MemoryBackendTests : IDisposable
{
    private const int Page = PagePool.PageBytes;

    private readonly List<SparseMemory> _memories = [];

    public void Dispose() => _memories.ForEach(memory => memory.Dispose());

    [Fact]
    public void It_reads_as_zeroes_at_first() => Assert.All(New(1 << 20).Read(1000, 200_000), b => Assert.Equal(0, b));

    [Theory]
    [InlineData(0, 1)]
    [InlineData(Page - 1, 2)]
    [InlineData(12345, 300_000)]
    public void What_was_written_is_read_and_nothing_else_changes(int offset, int length)
    {
        MemoryBackend backend = New(1 << 20);
        byte[] expected = new byte[1 << 20];
        byte[] data = BackendRig.Random(length);
        data.CopyTo(expected, offset);

        backend.Write(offset, data);

        Assert.Equal(expected, backend.Read(0, expected.Length));
    }

    [Theory]
    [InlineData(1L << 40)]
    [InlineData(long.MaxValue)]
    public void A_huge_disk_is_used_at_both_ends(long size)
    {
        MemoryBackend backend = New(size);
        byte[] data = BackendRig.Random(1000);

        backend.Write(0, data);
        backend.Write(size - 1000, data);

        Assert.Equal(data, backend.Read(0, 1000));
        Assert.Equal(data, backend.Read(size - 1000, 1000));
        long lastPage = (size - 1000) / Page * Page;
        Assert.Equal($"{Page}:d {lastPage - Page}:h {size - lastPage}:d", backend.Extents(0, size));
    }

    [Fact]
    public void Zeroes_take_no_page()
    {
        MemoryBackend backend = New(1 << 20);

        backend.Write(0, new byte[500_000]);

        Assert.Equal($"{1 << 20}:h", backend.Extents(0, 1 << 20));
    }

    [Fact]
    public void Extents_follow_the_pages()
    {
        MemoryBackend backend = New((10 * Page) + 5);

        backend.Write((2 * Page) + 7, [1]);
        backend.Write(3 * Page, [1]);
        backend.Write(10 * Page, [1]);

        Assert.Equal(
            $"{2 * Page}:h {2 * Page}:d {6 * Page}:h 5:d", backend.Extents(0, (10 * Page) + 5));
        Assert.Equal($"{Page - 100}:d {100}:h", backend.Extents((3 * Page) + 100, Page));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Trim_and_zero_release_pages(bool isTrim)
    {
        MemoryBackend backend = New(8 * Page);
        backend.Write(0, BackendRig.Random(8 * Page));

        if (isTrim)
        {
            backend.Trim(Page, 2 * Page);
        }
        else
        {
            backend.Zero(Page, 2 * Page);
        }

        Assert.Equal($"{Page}:d {2 * Page}:h {5 * Page}:d", backend.Extents(0, 8 * Page));
        Assert.All(backend.Read(Page, 2 * Page), b => Assert.Equal(0, b));
    }

    [Fact]
    public void A_page_that_is_zeroed_piece_by_piece_is_released()
    {
        MemoryBackend backend = New(Page);
        backend.Write(0, BackendRig.Random(Page));

        backend.Zero(0, 1000);
        Assert.Equal($"{Page}:d", backend.Extents(0, Page));
        backend.Zero(1000, Page - 1000);

        Assert.Equal($"{Page}:h", backend.Extents(0, Page));
    }

    [Fact]
    public void No_hole_keeps_the_page()
    {
        MemoryBackend backend = New(Page);
        backend.Write(0, BackendRig.Random(Page));

        backend.Zero(0, Page, NbdZeroOptions.NoHole);

        Assert.Equal($"{Page}:z", backend.Extents(0, Page));
        Assert.All(backend.Read(0, Page), b => Assert.Equal(0, b));
    }

    [Fact]
    public void No_hole_allocates_what_was_a_hole()
    {
        MemoryBackend backend = New(8 * Page);

        backend.Zero(Page + 100, 3 * Page, NbdZeroOptions.NoHole);
        Assert.Equal($"{Page}:h {4 * Page}:z {3 * Page}:h", backend.Extents(0, 8 * Page));

        // Zeroes over allocated zeroes change nothing; data do; what is released is a hole again.
        backend.Write(Page, new byte[Page]);
        Assert.Equal($"{Page}:h {4 * Page}:z {3 * Page}:h", backend.Extents(0, 8 * Page));
        backend.Write(2 * Page, [7]);
        backend.Zero(3 * Page, 10);
        Assert.Equal($"{Page}:h {Page}:z {Page}:d {Page}:h {Page}:z {3 * Page}:h", backend.Extents(0, 8 * Page));
        Assert.Equal(7, Assert.Single(backend.Read(0, 8 * Page), b => b != 0));
    }

    [Fact]
    public void Part_of_a_page_that_becomes_zero_with_no_hole_leaves_the_rest()
    {
        MemoryBackend backend = New(Page);
        backend.Write(0, [1, 2]);

        backend.Zero(0, 1, NbdZeroOptions.NoHole);
        Assert.Equal($"{Page}:d", backend.Extents(0, Page));
        backend.Zero(1, 1, NbdZeroOptions.NoHole);

        Assert.Equal($"{Page}:z", backend.Extents(0, Page));
    }

    [Fact]
    public void More_than_the_memory_of_the_machine_cannot_be_allocated()
    {
        MemoryBackend backend = New(long.MaxValue);

        LinuxException exception = Assert.Throws<LinuxException>(
            () => backend.Zero(0, long.MaxValue, NbdZeroOptions.NoHole));

        Assert.Equal(Errno.ENOSPC, exception.Errno);
        backend.Trim(0, long.MaxValue);
        Assert.Equal($"{long.MaxValue}:h", backend.Extents(0, long.MaxValue));
    }

    [Fact]
    public void A_page_that_is_taken_again_reads_as_zeroes_around_the_new_data()
    {
        MemoryBackend backend = New(2 * Page);
        backend.Write(0, BackendRig.Random(Page));
        backend.Trim(0, Page);

        backend.Write(Page + 10, [7]);

        Assert.Equal(7, Assert.Single(backend.Read(Page, Page), b => b != 0));
    }

    [Fact]
    public void Random_changes_end_as_in_an_array()
    {
        const int Size = (20 * Page) + 123;
        MemoryBackend backend = New(Size);
        byte[] expected = new byte[Size];
        Random random = new(5);
        for (int i = 0; i < 500; i++)
        {
            int offset = random.Next(Size);
            int length = random.Next(1, Math.Min(Size - offset, 3 * Page) + 1);
            if (i % 3 == 0)
            {
                backend.Zero(offset, length, i % 2 == 0 ? NbdZeroOptions.None : NbdZeroOptions.NoHole);
                Array.Clear(expected, offset, length);
            }
            else
            {
                byte[] data = BackendRig.Random(length, i);
                backend.Write(offset, data);
                data.CopyTo(expected, offset);
            }
        }

        Assert.Equal(expected, backend.Read(0, Size));
    }

    [Fact]
    public async Task Threads_that_write_and_release_the_same_pages_see_whole_writes_or_zeroes()
    {
        MemoryBackend backend = New(4 * Page);
        await Task.WhenAll(Enumerable.Range(1, 4).Select(id => Task.Run(() =>
        {
            byte[] data = new byte[4096];
            Array.Fill(data, (byte)id);
            for (int i = 0; i < 3000; i++)
            {
                long offset = i % 4 * Page;
                backend.Write(offset, data);
                byte[] read = backend.Read(offset, 4096);
                Assert.All(read, b => Assert.Equal(read[0], b));
                backend.Trim(offset, Page);
            }
        })));
    }

    [Fact]
    public void Requests_allocate_nothing()
    {
        MemoryBackend backend = New(1 << 20);
        byte[] data = BackendRig.Random(4096);

        BackendRig.AssertAllocatesNothing(Exercise);

        void Exercise()
        {
            ValueTask write = backend.WriteAsync(8192, data, false, CancellationToken.None);
            Assert.True(write.IsCompletedSuccessfully);
            ValueTask read = backend.ReadAsync(8192, data, CancellationToken.None);
            Assert.True(read.IsCompletedSuccessfully);
        }
    }

    private MemoryBackend New(long size)
    {
        SparseMemory memory = new(size);
        _memories.Add(memory);
        return new MemoryBackend(memory);
    }
}
