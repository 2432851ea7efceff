using System.Net.Sockets;
using UnitTests.Nbd;

namespace UnitTests.Serving;

/// <summary>Runs alone: what is measured is the memory of the whole process.</summary>
[Collection(nameof(ConnectionMemoryTests))]
[CollectionDefinition(nameof(ConnectionMemoryTests), DisableParallelization = true)]
public sealed class ConnectionMemoryTests
{
    private const int Size = 64 * 1024;

    [Fact]
    public async Task Thousands_of_connections_take_no_more_memory_than_hundreds()
    {
        const int Connections = 5000;
        await using TestServer server = new(new TestDisk(Size));
        long before = 0;
        for (int i = 0; i < Connections; i++)
        {
            using (Socket socket = server.ConnectSocket())
            {
                // Some leave at once, some in the handshake, some in transmission.
                string talk = (i % 3) switch
                {
                    0 => "",
                    1 => TestServer.HelloFlags,
                    _ => TestServer.HelloFlags + Frame.GoFor("") + TestServer.Request(0, 1, 0, Size),
                };
                _ = socket.Send(Convert.FromHexString(talk));
            }

            if (i == 500)
            {
                await TestServer.Until(() => server.Server.ConnectionCount == 0, "the end of the first");
                before = ResidentBytes();
            }
        }

        await TestServer.Until(() => server.Server.ConnectionCount == 0, "the end of all");
        // A leak of 16 KiB for each connection would be 74 MB.
        Assert.InRange(ResidentBytes() - before, long.MinValue, 64L << 20);
    }

    private static long ResidentBytes()
    {
        // Garbage goes back to the system.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        return long.Parse(File.ReadAllText("/proc/self/statm").Split(' ')[1]) * Environment.SystemPageSize;
    }
}
