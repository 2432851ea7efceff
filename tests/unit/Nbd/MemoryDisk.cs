using System.Collections.Concurrent;
using System.Security.Cryptography.X509Certificates;

namespace UnitTests.Nbd;

/// <summary>A disk that <see cref="FakeNbdServer"/> serves properly; it remembers what it was asked.</summary>
internal sealed class MemoryDisk(int size, int flags = MemoryDisk.AllFlags)
{
    internal const int AllFlags = 0x0c6d;

    private readonly byte[] _content = new byte[size];
    private readonly ConcurrentQueue<FakeRequest> _commands = new();

    internal string ExtraInfos { get; init; } = "";

    internal X509Certificate2? Certificate { get; init; }

    internal IReadOnlyList<FakeRequest> Commands => [.. _commands];

    internal void Serve(FakePeer peer)
    {
        peer.Handshake((ulong)size, flags, extraInfos: ExtraInfos, certificate: Certificate);
        while (true)
        {
            FakeRequest request = peer.ReceiveRequest();
            _commands.Enqueue(request with { Payload = [] });
            int offset = (int)request.Offset;
            int length = (int)request.Length;
            switch (request.Type)
            {
                case 0:
                    Span<byte> data = _content.AsSpan(offset, length);
                    peer.Send(Frame.DataChunk(true, request.Cookie, request.Offset, data));
                    continue;
                case 1:
                    request.Payload.CopyTo(_content, offset);
                    break;
                case 2:
                    peer.ExpectEnd();
                    return;
                case 6:
                    Array.Clear(_content, offset, length);
                    break;
                default:
                    break;
            }

            peer.Send(Frame.SimpleReply(0, request.Cookie));
        }
    }
}
