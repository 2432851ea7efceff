using System.Buffers.Binary;
using System.Net.Sockets;
using Nbd.Protocol;

namespace IntegrationTests.Fixtures;

/// <summary>
/// A server of 1 MiB in memory, on a Unix socket, that answers commands with any error number of the NBD specification:
/// other servers make EINVAL or EIO of some. It knows no options but NBD_OPT_GO.
/// </summary>
internal sealed class FailingServer : IDisposable
{
    private const int SizeBytes = 1 << 20;
    private const ulong OptionMagic = 0x49484156454F5054;
    private const ulong OptionReplyMagic = 0x3e889045565a9;
    private const uint Go = 7;

    // HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_WRITE_ZEROES.
    private const ushort Flags = 0x4d;

    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly byte[] _content = new byte[SizeBytes];
    private readonly string _path;
    private volatile Func<NbdCommandType, uint> _error = _ => 0;

    public FailingServer(string path)
    {
        _path = path;
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen();
        Run(Accept);
    }

    public string Uri => $"nbd+unix:///?socket={_path}";

    /// <summary>The error number that a command is answered with; 0: it is done.</summary>
    public void Answer(Func<NbdCommandType, uint> error) => _error = error;

    public void Dispose() => _listener.Dispose();

    private static void Run(Action action) => new Thread(() =>
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or IOException)
        {
            // The end of the client, or of the test.
        }
    })
    { IsBackground = true }.Start();

    private void Accept()
    {
        while (true)
        {
            Socket client = _listener.Accept();
            Run(() =>
            {
                using NetworkStream stream = new(client, ownsSocket: true);
                Handshake(stream);
                Serve(stream);
            });
        }
    }

    private static void Handshake(NetworkStream stream)
    {
        stream.Write([.. "NBDMAGIC"u8, .. "IHAVEOPT"u8, 0, 3]);
        _ = Receive(stream, 4);
        uint option;
        do
        {
            byte[] header = Receive(stream, 16);
            Assert.Equal(OptionMagic, BinaryPrimitives.ReadUInt64BigEndian(header));
            option = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(8));
            _ = Receive(stream, BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(12)));
            if (option == Go)
            {
                byte[] info = new byte[12];
                BinaryPrimitives.WriteInt64BigEndian(info.AsSpan(2), SizeBytes);
                BinaryPrimitives.WriteUInt16BigEndian(info.AsSpan(10), Flags);
                Reply(stream, option, 3, info);
            }

            // NBD_REP_ACK or NBD_REP_ERR_UNSUP.
            Reply(stream, option, option == Go ? 1 : 0x80000001, []);
        }
        while (option != Go);
    }

    private void Serve(NetworkStream stream)
    {
        while (true)
        {
            byte[] request = Receive(stream, 28);
            NbdCommandType type = (NbdCommandType)BinaryPrimitives.ReadUInt16BigEndian(request.AsSpan(6));
            int offset = (int)BinaryPrimitives.ReadInt64BigEndian(request.AsSpan(16));
            int length = BinaryPrimitives.ReadInt32BigEndian(request.AsSpan(24));
            byte[] payload = type == NbdCommandType.Write ? Receive(stream, length) : [];
            if (type == NbdCommandType.Disconnect)
            {
                return;
            }

            uint error = _error(type);
            byte[] reply = new byte[16 + (type == NbdCommandType.Read && error == 0 ? length : 0)];
            BinaryPrimitives.WriteUInt32BigEndian(reply, 0x67446698);
            BinaryPrimitives.WriteUInt32BigEndian(reply.AsSpan(4), error);
            request.AsSpan(8, 8).CopyTo(reply.AsSpan(8));
            if (error == 0)
            {
                Do(type, offset, length, payload, reply.AsSpan(16));
            }

            stream.Write(reply);
        }
    }

    private void Do(NbdCommandType type, int offset, int length, byte[] payload, Span<byte> data)
    {
        switch (type)
        {
            case NbdCommandType.Read:
                _content.AsSpan(offset, length).CopyTo(data);
                break;
            case NbdCommandType.Write:
                payload.CopyTo(_content, offset);
                break;
            case NbdCommandType.WriteZeroes:
                _content.AsSpan(offset, length).Clear();
                break;
            default:
                break;
        }
    }

    private static byte[] Receive(NetworkStream stream, int length)
    {
        byte[] bytes = new byte[length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    private static void Reply(NetworkStream stream, uint option, uint type, byte[] data)
    {
        byte[] header = new byte[20];
        BinaryPrimitives.WriteUInt64BigEndian(header, OptionReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(8), option);
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(12), type);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(16), data.Length);
        stream.Write([.. header, .. data]);
    }
}
