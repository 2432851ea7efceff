using NbdServe;
using UnitTests.Nbd;
using UnitTests.Serving;

namespace UnitTests.NbdServeTests;

/// <summary>Commands of more than 4 GiB, byte for byte, which only extended headers can express.</summary>
public sealed class ExtendedLengthTests : IDisposable
{
    private const ulong Size = 1UL << 40;
    private const ulong Big = (5UL << 30) + 65536;
    private const int Page = 64 * 1024;

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("nbd-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("null")]
    public async Task Zeroes_trim_and_cache_take_more_than_4_GiB(string kind)
    {
        using ExportTable exports = Open(kind);
        await using TestServer server = new(exports.Open);
        using FakePeer client = server.Enter(Style.Extended);
        Write(client, 0);
        Write(client, Big - 4096);
        Write(client, Big);
        foreach ((int type, int flags) in ((int, int)[])[(5, 0), (6, 0x10), (4, 1), (6, 1)])
        {
            Write(client, Big - 4096);
            client.Send(TestServer.Extended(type, 9, 0, Big, flags));
            client.Expect(TestServer.ExtendedChunk(0, 9, 0));
        }

        Assert.Equal(new byte[4096], Read(client, 0));
        Assert.Equal(new byte[4096], Read(client, Big - 4096));
        Assert.Equal(kind == "null" ? new byte[4096] : Pattern(), Read(client, Big));
    }

    [Fact]
    public async Task Block_status_has_extents_of_more_than_4_GiB()
    {
        using ExportTable exports = Open("memory");
        await using TestServer server = new(exports.Open);
        using FakePeer client = server.Enter(Style.Extended);
        Write(client, Big);
        client.Send(TestServer.Extended(6, 1, Big + Page, Page, 2));
        client.Expect(TestServer.ExtendedChunk(0, 1, Big + Page));

        client.Send(TestServer.Extended(7, 2, 0, Size));
        client.Expect(Extents(2, 0, (Big, 3), (Page, 0), (Page, 2), (Size - Big - (2 * Page), 3)));
        client.Send(TestServer.Extended(7, 3, 4096, Size - 4096, 8));
        client.Expect(Extents(3, 4096, (Big - 4096, 3)));
        // With a payload that names the context, the length is in there.
        client.Send(TestServer.Extended(7, 4, 0, 12, 0x20, Frame.U64(Big) + Frame.U32(1)));
        client.Expect(Extents(4, 0, (Big, 3)));
        client.Send(TestServer.Extended(7, 5, Big + (2 * Page), 12, 0x28, Frame.U64(Size - Big - (2 * Page)) + Frame.U32(1)));
        client.Expect(Extents(5, Big + (2 * Page), (Size - Big - (2 * Page), 3)));
    }

    [Theory]
    [InlineData("no context", "")]
    [InlineData("an unknown context", "00000002")]
    [InlineData("the same context twice", "0000000100000001")]
    [InlineData("half an id", "0001")]
    [InlineData("one and a half ids", "000000010000")]
    public async Task A_block_status_filter_that_is_wrong_gets_EINVAL_and_the_connection_goes_on(string what, string ids)
    {
        using ExportTable exports = Open("memory");
        await using TestServer server = new(exports.Open);
        using FakePeer client = server.Enter(Style.Extended);
        client.Send(TestServer.Extended(7, 1, 0, 8 + ((ulong)ids.Length / 2), 0x20, Frame.U64(Size) + ids));
        ExpectError(client, 1, 0, 22);
        client.Send(TestServer.Extended(7, 2, 0, Size));
        client.Expect(Extents(2, 0, (Size, 3)));
        Assert.NotEmpty(what);
    }

    [Fact]
    public async Task A_filter_whose_range_is_beyond_the_end_gets_EINVAL()
    {
        using ExportTable exports = Open("memory");
        await using TestServer server = new(exports.Open);
        using FakePeer client = server.Enter(Style.Extended);
        foreach (ulong length in (ulong[])[0, Size + 1, ulong.MaxValue])
        {
            client.Send(TestServer.Extended(7, 1, 0, 12, 0x20, Frame.U64(length) + Frame.U32(1)));
            ExpectError(client, 1, 0, 22);
        }
    }

    [Theory]
    [InlineData(6, Size, 1UL, 0, 28)]
    [InlineData(6, 1UL, Size, 0, 28)]
    [InlineData(6, 0UL, Size, 2, 28)]
    [InlineData(4, 1UL, Size, 0, 22)]
    [InlineData(5, 1UL, Size, 0, 22)]
    [InlineData(7, 1UL, Size, 0, 22)]
    [InlineData(0, 0UL, Big, 0, 75)]
    public async Task What_is_too_long_gets_its_error(int type, ulong offset, ulong length, int flags, int error)
    {
        using ExportTable exports = Open("memory");
        await using TestServer server = new(exports.Open);
        using FakePeer client = server.Enter(Style.Extended);
        client.Send(TestServer.Extended(type, 1, offset, length, flags));
        ExpectError(client, 1, offset, error);
        client.Send(TestServer.Extended(3, 2, 0, 0));
        client.Expect(TestServer.ExtendedChunk(0, 2, 0));
    }

    private ExportTable Open(string kind)
    {
        BackendArguments backend = kind == "file"
            ? new() { Kind = kind, Path = Path.Combine(_directory.FullName, "image"), CreateBytes = (long)Size }
            : new() { Kind = kind, SizeBytes = (long)Size };
        return new ExportTable([new ExportArguments("", backend)], isReadOnly: false);
    }

    private static byte[] Pattern() => TransmissionTests.Pattern(1, 4096);

    private static void Write(FakePeer client, ulong offset)
    {
        client.Send(TestServer.Extended(1, 7, offset, 4096, 0x20, Frame.Bytes(Pattern())));
        client.Expect(TestServer.ExtendedChunk(0, 7, offset));
    }

    private static byte[] Read(FakePeer client, ulong offset)
    {
        client.Send(TestServer.Extended(0, 8, offset, 4096, 4));
        client.Expect("6e8a278c" + Frame.U16(1) + Frame.U16(1) + Frame.U64(8) + Frame.U64(offset) + Frame.U64(8 + 4096));
        client.Expect(Frame.U64(offset));
        return client.Receive(4096);
    }

    private static string Extents(ulong cookie, ulong offset, params (ulong Length, ulong Flags)[] extents) =>
        TestServer.ExtendedChunk(
            6, cookie, offset,
            Frame.U32(1) + Frame.U32((uint)extents.Length)
                + string.Concat(extents.Select(extent => Frame.U64(extent.Length) + Frame.U64(extent.Flags))));

    private static void ExpectError(FakePeer client, ulong cookie, ulong offset, int error)
    {
        client.Expect("6e8a278c" + Frame.U16(1) + Frame.U16(0x8001) + Frame.U64(cookie) + Frame.U64(offset));
        int length = Convert.ToInt32(Convert.ToHexString(client.Receive(8)), 16);
        client.Expect(Frame.U32((uint)error) + Frame.U16(length - 6));
        _ = client.Receive(length - 6);
    }
}
