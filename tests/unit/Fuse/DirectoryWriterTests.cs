using Fuse;

namespace UnitTests.FuseTests;

public sealed class DirectoryWriterTests
{
    private const string Dot = "0100000000000000" + "0100000000000000" + "01000000" + "04000000" + "2e00000000000000";
    private const string Disk =
        "0200000000000000" + "0200000000000000" + "08000000" + "08000000" + "6469736b64697363";

    [Fact]
    public void Entries_are_packed_as_the_kernel_reads_them()
    {
        using FakeKernel kernel = new(new Listing());

        Assert.Equal(
            ["5000000000000000" + "0800000000000000" + Dot + Disk], kernel.Ask(Readdir(8, offset: 0, size: 4096)));
    }

    [Theory]
    [InlineData(64, Dot + Disk)]
    [InlineData(63, Dot)]
    [InlineData(32, Dot)]
    [InlineData(31, "")]
    [InlineData(0, "")]
    public void An_entry_that_does_not_fit_is_left_for_the_next_time(int size, string expected)
    {
        using FakeKernel kernel = new(new Listing());

        Assert.Equal(expected, Assert.Single(kernel.Ask(Readdir(8, offset: 0, size)))[32..]);
    }

    [Fact]
    public void Nothing_more_is_an_empty_reply()
    {
        using FakeKernel kernel = new(new Listing());

        Assert.Equal(["1000000000000000" + "0800000000000000"], kernel.Ask(Readdir(8, offset: 2, size: 4096)));
    }

    private static byte[] Readdir(ulong unique, ulong offset, int size) => FakeKernel.Request(
        FuseOpcode.ReadDir,
        unique,
        FakeKernel.Hex(0) + FakeKernel.Hex(offset) + FakeKernel.Hex((ulong)size) + FakeKernel.Hex(0) + FakeKernel.Hex(0));

    private sealed class Listing : HoldingFileSystem
    {
        protected internal override void Readdir(FuseRequest request, ulong handle, ulong offset, uint size)
        {
            FuseDirectoryWriter writer = new(request, size);
            _ = (offset > 0 || writer.TryAdd(1, 1, 0x41ed, "."u8))
                && (offset > 1 || writer.TryAdd(2, 2, 0x81a4, "diskdisc"u8));
            writer.Reply();
        }
    }
}
