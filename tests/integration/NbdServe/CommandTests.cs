using Tmds.Linux;

namespace IntegrationTests.NbdServeTests;

/// <summary>Single commands, from qemu-io and from scripts.</summary>
public sealed class CommandTests : IntegrationTest
{

    public static TheoryData<string> Writable() => new("memory", "file");

    [Theory]
    [MemberData(nameof(Writable))]
    public void Qemu_io_writes_zeroes_discards_and_reads(string kind)
    {
        NbdServer server = NbdServe([.. Backend(kind)]);

        string output = Tool.Run(
            "qemu-io", "-f", "raw", "-d", "unmap", server.Uri,
            "-c", "write -P 1 0 1M", "-c", "write -f -P 2 64k 128k", "-c", "write -z 256k 64k", "-c", "write -z -u 512k 64k",
            "-c", "discard 768k 64k", "-c", "flush",
            "-c", "read -P 1 0 64k", "-c", "read -P 2 64k 128k", "-c", "read -P 0 256k 64k", "-c", "read -P 0 512k 64k",
            "-c", "read -P 0 768k 64k", "-c", "read -P 1 832k 192k");

        Assert.DoesNotContain("failed", output, StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [MemberData(nameof(Writable))]
    public void A_script_uses_every_command(string kind)
    {
        NbdServer server = NbdServe([.. Backend(kind)]);

        Tool.Python(
            server.Uri,
            """
            size = h.get_size()
            assert size == 4 << 20
            assert h.can_fast_zero() and h.can_multi_conn() and h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
            h.pwrite(b'a' * 100000, 1, nbd.CMD_FLAG_FUA)
            assert h.pread(100002, 0) == b'\0' + b'a' * 100000 + b'\0'
            h.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)
            h.zero(10, 65536 + 100, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
            assert h.pread(65536 + 110, 0) == bytes(65536) + b'a' * 100 + bytes(10)
            h.pwrite(b'z' * 65536, size - 65536)
            h.trim(65536, size - 65536, nbd.CMD_FLAG_FUA)
            h.cache(1 << 20, 0)
            h.flush()
            extents = []
            def seen(context, offset, entries, error):
                extents.extend(zip(entries[0::2], entries[1::2]))
            h.block_status(size, 0, seen)
            assert sum(length for length, _ in extents) == size
            assert extents[0][1] == 3 and extents[-1][1] == 3 and (0 in [flags for _, flags in extents]), extents
            extents = []
            h.block_status(size, 0, seen, nbd.CMD_FLAG_REQ_ONE)
            assert len(extents) == 1
            chunks = []
            def chunk(data, offset, status, error):
                chunks.append(status)
            h.pread_structured(size, 0, chunk)
            assert nbd.READ_HOLE in chunks and nbd.READ_DATA in chunks, chunks
            """);
    }

    [Theory]
    [MemberData(nameof(Writable))]
    public void Read_only_refuses_every_change(string kind)
    {
        if (kind == "file")
        {
            File.WriteAllBytes(Folder.FileAt("disk"), new byte[4 << 20]);
        }

        NbdServer server = NbdServe(kind, kind == "file" ? Folder.FileAt("disk") : "4M", "--readonly");

        Tool.Python(
            server.Uri,
            """
            assert h.is_read_only()
            h.set_strict_mode(0)
            for change in (lambda: h.pwrite(b'a', 0), lambda: h.trim(4096, 0), lambda: h.zero(4096, 0)):
                try:
                    change()
                    assert False
                except nbd.Error as error:
                    assert error.errno in ("EPERM", "EROFS", "EINVAL"), error
            assert h.pread(512, 0) == bytes(512)
            """);
    }

    [Fact]
    public void Changes_of_one_client_are_seen_by_another()
    {
        NbdServer server = NbdServe("memory", "1M");

        Tool.Python(
            server.Uri,
            """
            other = nbd.NBD()
            other.connect_uri(sys.argv[1])
            h.pwrite(b'x' * 4096, 0)
            assert other.pread(4096, 0) == b'x' * 4096
            other.zero(4096, 0)
            assert h.pread(4096, 0) == bytes(4096)
            """);
    }

    [Fact]
    public void A_client_that_is_killed_in_the_middle_of_a_write_bothers_nobody()
    {
        NbdServer server = NbdServe("memory", "64M");
        for (int i = 0; i < 3; i++)
        {
            string ready = Folder.FileAt($"ready{i}");
            using BackgroundProcess writer = BackgroundProcess.Start(
                "/usr/bin/python3",
                [
                    "-c",
                    "import nbd, sys\nh = nbd.NBD()\nh.connect_uri(sys.argv[1])\nopen(sys.argv[2], 'w')\n"
                        + "while True: h.pwrite(b'k' * (8 << 20), 0)",
                    server.Uri,
                    ready,
                ]);
            Wait.Until(() => File.Exists(ready), "the writer writes");
            writer.Dispose();
        }

        // Half a request, then gone.
        Tool.Run(
            "/usr/bin/python3",
            "-c",
            """
            import socket, struct, sys
            s = socket.socket(socket.AF_UNIX)
            s.connect(sys.argv[1])
            def read(n):
                data = b''
                while len(data) < n: data += s.recv(n - len(data))
                return data
            read(18)
            s.sendall(struct.pack('>I', 3))
            s.sendall(struct.pack('>8sII', b'IHAVEOPT', 1, 0))
            read(10)
            s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 1, 7, 0, 1 << 20) + b'half')
            """,
            server.Socket);

        Tool.Python(server.Uri, "h.pwrite(b'ok', 0)\nassert h.pread(2, 0) == b'ok'");
    }

    [Fact]
    public void A_disk_that_is_slow_to_write_does_not_hold_up_reads()
    {
        NbdServer disk = Nbdkit("--filter=delay", "memory", "4M", "wdelay=200ms");
        NbdServer server = NbdServe("file", Mount(disk.Uri).File);

        // The writes are one after the other on the disk: 3 seconds in all.
        Tool.Python(
            server.Uri,
            """
            ended = []
            def end(what):
                def callback(error):
                    assert error.value == 0
                    ended.append(what)
                    return 1
                return callback
            for i in range(15):
                h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b'w' * 4096)), i * 4096, end('write'))
            h.aio_pread(nbd.Buffer(4096), 2 << 20, end('read'))
            while len(ended) < 16: h.poll(-1)
            assert ended.index('read') < 10, ended
            """);

        server.Signal(LibC.SIGTERM);
        Assert.Equal(0, server.Process.WaitForExit());
    }

    [Fact]
    public void What_was_flushed_is_in_the_file_after_a_kill()
    {
        NbdServer server = NbdServe([.. Backend("file")]);
        Tool.Python(server.Uri, "h.pwrite(b'd' * 5000, 100)\nh.flush()");

        server.Kill();

        Assert.Equal(Data.Filled(5000, (byte)'d'), File.ReadAllBytes(Folder.FileAt("disk"))[100..5100]);
    }

    private string[] Backend(string kind) =>
        kind == "file" ? ["file", Folder.FileAt("disk"), "--create", "4M"] : ["memory", "4M"];
}
