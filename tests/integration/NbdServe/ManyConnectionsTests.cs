using System.Text.RegularExpressions;

namespace IntegrationTests.NbdServeTests;

/// <summary>Clients that come and go.</summary>
public sealed class ManyConnectionsTests : IntegrationTest
{
    // Reads one block over each connection; every other one is dropped without a word.
    private const string Script =
        """
        import socket, struct, sys
        def read(s, n):
            data = b''
            while len(data) < n:
                part = s.recv(n - len(data))
                assert part, 'the connection was lost'
                data += part
            return data
        for i in range(int(sys.argv[2])):
            s = socket.socket(socket.AF_UNIX)
            s.connect(sys.argv[1])
            read(s, 18)
            s.sendall(struct.pack('>I8sII', 3, b'IHAVEOPT', 1, 0))
            read(s, 10)
            s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, 1, 0, 4096))
            read(s, 16 + 4096)
            if i % 2 == 0:
                s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 2, 2, 0, 0))
            s.close()
        """;

    [Fact]
    public void Ten_thousand_clients_leave_nothing_in_memory()
    {
        NbdServer server = NbdServe("memory", "1M");
        Tool.Run("/usr/bin/python3", "-c", Script, server.Socket, "500");
        int before = ResidentKibibytes(server);

        Tool.Run("/usr/bin/python3", "-c", Script, server.Socket, "10000");

        int after = ResidentKibibytes(server);
        Assert.True(after < before + 8192, $"{before} KiB, then {after} KiB");
        Assert.True(Directory.GetFiles($"/proc/{server.Process.Id}/fd").Length < 100, "descriptors are left open");
    }

    private static int ResidentKibibytes(NbdServer server) => int.Parse(
        Regex.Match(File.ReadAllText($"/proc/{server.Process.Id}/status"), @"VmRSS:\s+(\d+)").Groups[1].Value,
        System.Globalization.CultureInfo.InvariantCulture);
}
