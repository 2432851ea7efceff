using System.Formats.Tar;
using global::Nbd;

namespace UnitTests.Nbd;

public sealed class ExportStreamTests
{
    private const int Size = 1 << 20;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_reads_writes_and_seeks()
    {
        MemoryDisk disk = new(Size);
        using FakeNbdServer server = new(disk.Serve);
        await using (Stream stream = (await NbdClientTests.ConnectAsync(server)).AsStream())
        {
            Assert.True(stream.CanRead && stream.CanSeek && stream.CanWrite);
            Assert.Equal(Size, stream.Length);
            byte[] written = TransmissionTests.Pattern(3, 1000);
            Assert.Equal(Size - 1500, stream.Seek(-1500, SeekOrigin.End));
            stream.Write(written);
            await stream.WriteAsync(written.AsMemory(0, 500), Token);
            Assert.Equal(Size, stream.Position);
            Assert.Equal(-1, stream.ReadByte());

            stream.Position = Size - 600;
            byte[] read = new byte[1000];
            Assert.Equal(600, stream.Read(read));
            Assert.Equal([.. written[900..], .. written[..500]], read[..600]);
            Assert.Equal(0, await stream.ReadAsync(read, Token));
            Assert.Equal(Size - 10, stream.Seek(-10, SeekOrigin.Current));
            NbdException full = await Assert.ThrowsAsync<NbdException>(
                async () => await stream.WriteAsync(new byte[11], Token));
            Assert.Equal(Linux.Errno.ENOSPC, full.Errno);
            Assert.Equal(Size - 10, stream.Position);

            Assert.Throws<IOException>(() => stream.Seek(-1, SeekOrigin.Begin));
            Assert.Throws<IOException>(() => stream.Seek(long.MaxValue, SeekOrigin.End));
            Assert.Throws<ArgumentOutOfRangeException>(() => stream.Position = -1);
            Assert.Throws<NotSupportedException>(() => stream.SetLength(0));
            stream.Position = Size + 5L;
            Assert.Equal(0, stream.Read(read));
        }

        server.Finish();
    }

    [Fact]
    public async Task Flushing_sends_FLUSH()
    {
        MemoryDisk disk = new(Size);
        using FakeNbdServer server = new(disk.Serve);
        await using (Stream stream = (await NbdClientTests.ConnectAsync(server)).AsStream())
        {
            stream.WriteByte(1);
            stream.Flush();
            stream.WriteByte(2);
            await stream.FlushAsync(Token);
        }

        server.Finish();
        Assert.Equal([1, 3, 1, 3, 2], disk.Commands.Select(c => c.Type));
    }

    [Fact]
    public async Task A_read_only_export_cannot_be_written()
    {
        MemoryDisk disk = new(Size, MemoryDisk.AllFlags | 2);
        using FakeNbdServer server = new(disk.Serve);
        await using (Stream stream = (await NbdClientTests.ConnectAsync(server)).AsStream())
        {
            Assert.False(stream.CanWrite);
            Assert.Throws<NotSupportedException>(() => stream.WriteByte(1));
            stream.Flush();
        }

        server.Finish();
        Assert.Equal([2], disk.Commands.Select(c => c.Type));
    }

    [Fact]
    public async Task The_client_ends_with_it_unless_it_is_to_stay()
    {
        MemoryDisk disk = new(Size);
        using FakeNbdServer server = new(disk.Serve);
        NbdClient client = await NbdClientTests.ConnectAsync(server);
        Stream left = client.AsStream(leaveOpen: true);
        left.Dispose();
        Assert.False(left.CanRead || left.CanWrite || left.CanSeek);
        Assert.Throws<ObjectDisposedException>(() => left.ReadByte());
        Assert.Throws<ObjectDisposedException>(() => left.Length);
        await client.ReadAsync(0, new byte[1], Token);

        client.AsStream().Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await client.ReadAsync(0, new byte[1], Token));
        server.Finish();
    }

    [Fact]
    public async Task An_archive_is_written_to_an_export_and_read_from_it()
    {
        MemoryDisk disk = new(Size) { ExtraInfos = Frame.BlockSizeInfo(4096, 4096, 65536) };
        using FakeNbdServer server = new(disk.Serve);
        await using (Stream stream = (await NbdClientTests.ConnectAsync(server)).AsStream())
        {
            byte[] content = TransmissionTests.Pattern(0, 100_001);
            using (TarWriter writer = new(stream, leaveOpen: true))
            {
                writer.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, "f") { DataStream = new MemoryStream(content) });
            }

            stream.Position = 0;
            using TarReader reader = new(stream, leaveOpen: true);
            TarEntry entry = (await reader.GetNextEntryAsync(cancellationToken: Token))!;
            MemoryStream copy = new();
            await entry.DataStream!.CopyToAsync(copy, Token);
            Assert.Equal(content, copy.ToArray());
        }

        server.Finish();
    }
}
