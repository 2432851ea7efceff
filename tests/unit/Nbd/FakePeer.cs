using System.Buffers.Binary;
using System.Diagnostics;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using global::Nbd;
using Tmds.Linux;

namespace UnitTests.Nbd;

/// <summary>The server's end of one connection, as scripts see it. Closed when its script ends.</summary>
internal sealed class FakePeer : IDisposable
{
    private const int MaximumTranscript = 4000;

    // The socket keeps the time limits: a receive or send that waits longer throws.
    private readonly Socket _socket;
    private readonly List<string> _transcript = [];
    private SslStream? _tls;

    internal FakePeer(Socket socket)
    {
        _socket = socket;
        _socket.ReceiveTimeout = (int)FakeNbdServer.TimeLimit.TotalMilliseconds;
        _socket.SendTimeout = (int)FakeNbdServer.TimeLimit.TotalMilliseconds;
    }

    /// <summary>A peer that is connected already, and the client's end.</summary>
    internal static unsafe FakePeer Connected(out NbdEndpoint.Fd client)
    {
        int* pair = stackalloc int[2];
        Assert.Equal(0, LibC.socketpair(LibC.AF_UNIX, LibC.SOCK_STREAM | LibC.SOCK_CLOEXEC, 0, pair));
        client = new NbdEndpoint.Fd(pair[0]);
        return new FakePeer(new Socket(new SafeSocketHandle(pair[1], ownsHandle: true)));
    }

    /// <summary>Bytes that the client sent and nobody received yet.</summary>
    internal int UnreadBytes => _socket.Available;

    /// <summary>Receives exactly these bytes.</summary>
    internal void Expect(string hex)
    {
        string got = Convert.ToHexStringLower(Receive(hex.Length / 2));
        Assert.True(hex == got, $"expected {hex}\n     got {got}\n{Transcript}");
    }

    /// <summary>The client says no more.</summary>
    internal void ExpectEnd()
    {
        byte[] one = new byte[1];
        int count = ReceiveSome(one);
        Assert.True(count == 0, $"expected the end\n     got {Convert.ToHexStringLower(one)}\n{Transcript}");
    }

    /// <summary>Reads what still comes, until the client closes or cuts the connection.</summary>
    internal void Drain()
    {
        byte[] buffer = new byte[65536];
        while (ReceiveSome(buffer) > 0)
        {
        }
    }

    internal void Send(string hex) => Send(Convert.FromHexString(hex));

    internal void Send(byte[] bytes)
    {
        Note("server", bytes);
        if (_tls is not null)
        {
            _tls.Write(bytes);
            return;
        }

        for (int sent = 0; sent < bytes.Length;)
        {
            sent += _socket.Send(bytes.AsSpan(sent));
        }
    }

    /// <summary>Sends past TLS.</summary>
    internal void SendPlain(string hex) => _socket.Send(Convert.FromHexString(hex));

    /// <summary>Sends, says that no more comes, and reads until the client leaves.</summary>
    internal void SendAndShutDown(byte[] bytes)
    {
        try
        {
            Send(bytes);
            _socket.Shutdown(SocketShutdown.Send);
        }
        catch (SocketException)
        {
            // The client had heard enough.
        }

        Drain();
    }

    /// <summary>Sends until the client has cut the connection.</summary>
    internal void SendForEver(string hex)
    {
        byte[] bytes = Convert.FromHexString(string.Concat(Enumerable.Repeat(hex, Math.Max(1, 65536 / hex.Length))));
        try
        {
            while (true)
            {
                _ = _socket.Send(bytes);
            }
        }
        catch (SocketException)
        {
            // The end that was waited for; it has several names.
        }
    }

    /// <summary>Sends one byte again and again, until the other end has cut the connection.</summary>
    internal async Task TrickleForEver(byte value, TimeSpan pace)
    {
        try
        {
            while (true)
            {
                _ = _socket.Send([value]);
                await Task.Delay(pace);
            }
        }
        catch (SocketException)
        {
            // The end that was waited for; it has several names.
        }
    }

    /// <summary>Sends each byte only when the client has read the one before.</summary>
    internal void SendByteByByte(string hex)
    {
        foreach (byte value in Convert.FromHexString(hex))
        {
            Send([value]);
            WaitUntilRead();
        }
    }

    /// <summary>Sends in two parts, the second when the client has read the first.</summary>
    internal void SendInTwo(string hex, int split)
    {
        byte[] bytes = Convert.FromHexString(hex);
        Send(bytes[..split]);
        WaitUntilRead();
        Send(bytes[split..]);
    }

    internal byte[] Receive(int count)
    {
        byte[] bytes = new byte[count];
        for (int received = 0; received < count;)
        {
            int part = ReceiveSome(bytes.AsSpan(received));
            Assert.True(part > 0, $"the client left after {received} of {count} bytes\n{Transcript}");
            received += part;
        }

        Note("client", bytes);
        return bytes;
    }

    /// <summary>Whether extended headers were agreed on.</summary>
    internal bool IsExtended { get; set; }

    /// <summary>Receives a command, with its data if it is a WRITE.</summary>
    internal FakeRequest ReceiveRequest()
    {
        byte[] wire = Receive(IsExtended ? 32 : 28);
        Assert.True(
            BinaryPrimitives.ReadUInt32BigEndian(wire) == (IsExtended ? 0x21e41c71 : 0x25609513),
            $"not a request: {Convert.ToHexStringLower(wire)}\n{Transcript}");
        ulong length = IsExtended
            ? BinaryPrimitives.ReadUInt64BigEndian(wire.AsSpan(24))
            : BinaryPrimitives.ReadUInt32BigEndian(wire.AsSpan(24));
        FakeRequest request = new(
            BinaryPrimitives.ReadUInt16BigEndian(wire.AsSpan(4)),
            BinaryPrimitives.ReadUInt16BigEndian(wire.AsSpan(6)),
            BinaryPrimitives.ReadUInt64BigEndian(wire.AsSpan(8)),
            BinaryPrimitives.ReadUInt64BigEndian(wire.AsSpan(16)),
            (uint)length)
        {
            IsExtended = IsExtended,
            LongLength = length,
        };
        bool hasPayload = IsExtended ? (request.Flags & 32) != 0 : request.Type == 1;
        return hasPayload ? request with { Payload = Receive((int)request.Length) } : request;
    }

    /// <summary>Answers WRITEs of nothing but this byte, until another command comes.</summary>
    internal void AnswerWrites(byte content)
    {
        for (FakeRequest request = ReceiveRequest(); request.Type == 1; request = ReceiveRequest())
        {
            Assert.Equal(-1, request.Payload.AsSpan().IndexOfAnyExcept(content));
            Send(Frame.SimpleReply(0, request.Cookie));
        }
    }

    /// <summary>DISC, then the end.</summary>
    internal void ExpectDisconnect()
    {
        Assert.Equal(2, ReceiveRequest().Type);
        ExpectEnd();
    }

    /// <summary>Receives an option, whatever it is; null: the client left instead.</summary>
    internal uint? ReceiveOption()
    {
        byte[] first = new byte[1];
        if (ReceiveSome(first) == 0)
        {
            return null;
        }

        byte[] header = [.. first, .. Receive(15)];
        _ = Receive((int)BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(12)));
        return BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(8));
    }

    /// <summary>ABORT, then the end.</summary>
    internal void ExpectAbort()
    {
        Expect(Frame.Option(Frame.Abort));
        ExpectEnd();
    }

    /// <summary>The greeting of both sides.</summary>
    internal void Greet()
    {
        Send(Frame.Newstyle());
        Expect(Frame.U32(3));
    }

    /// <summary>Expects an option and acknowledges it after these replies.</summary>
    internal void Answer(string option, string replies, uint number)
    {
        Expect(option);
        Send(replies + Frame.OptionReply(number, Frame.Ack));
    }

    /// <summary>Greets a client that asks for structured replies first.</summary>
    internal void AgreeToStructuredReplies()
    {
        Greet();
        Answer(Frame.Option(Frame.StructuredReply), "", Frame.StructuredReply);
    }

    /// <summary>Greets a client that asks for extended headers first.</summary>
    internal void AgreeToExtendedHeaders()
    {
        Greet();
        Answer(Frame.Option(Frame.ExtendedHeaders), "", Frame.ExtendedHeaders);
    }

    /// <summary>A whole handshake with GO; afterwards the connection is in the transmission phase.</summary>
    internal void Handshake(
        ulong size = 1024 * 1024,
        int flags = 0x0c6d,
        bool structured = true,
        string exportName = "",
        string extraInfos = "",
        X509Certificate2? certificate = null)
    {
        Greet();
        if (certificate is not null)
        {
            StartTls(certificate);
        }

        Expect(Frame.Option(Frame.StructuredReply));
        Send(Frame.OptionReply(Frame.StructuredReply, structured ? Frame.Ack : 0x80000001));
        Expect(Frame.GoFor(exportName));
        Send(Frame.ExportInfo(size, flags) + extraInfos + Frame.OptionReply(Frame.Go, Frame.Ack));
    }

    /// <summary>
    /// A whole handshake of a client that asks for meta contexts; the server has those that are named here, with the
    /// ids 1, 2 and so on.
    /// </summary>
    internal void HandshakeWithContexts(
        bool extended,
        string[] contexts,
        ulong size = 1024 * 1024,
        string[]? asked = null,
        string extraInfos = "",
        int flags = 0x0c6d)
    {
        Greet();
        Expect(Frame.Option(Frame.ExtendedHeaders));
        Send(Frame.OptionReply(Frame.ExtendedHeaders, extended ? Frame.Ack : 0x80000001));
        if (!extended)
        {
            Expect(Frame.Option(Frame.StructuredReply));
            Send(Frame.OptionReply(Frame.StructuredReply, Frame.Ack));
        }

        Expect(Frame.MetaContextFor(Frame.SetMetaContext, "", asked ?? contexts));
        uint id = 0;
        foreach (string context in contexts)
        {
            Send(Frame.MetaContextReply(Frame.SetMetaContext, ++id, context));
        }

        Send(Frame.OptionReply(Frame.SetMetaContext, Frame.Ack));
        Expect(Frame.GoFor(""));
        Send(Frame.ExportInfo(size, flags) + extraInfos + Frame.OptionReply(Frame.Go, Frame.Ack));
        IsExtended = extended;
    }

    /// <summary>Agrees to TLS and does its handshake; from then on all bytes go through it.</summary>
    /// <param name="certificate">The server's.</param>
    /// <param name="client">Told the client's certificate, which is asked for if this is not null.</param>
    internal void StartTls(X509Certificate2 certificate, Action<X509Certificate?>? client = null)
    {
        Expect(Frame.Option(Frame.StartTls));
        Send(Frame.OptionReply(Frame.StartTls, Frame.Ack));
        SslStream tls = new(new NetworkStream(_socket));
        tls.AuthenticateAsServer(new SslServerAuthenticationOptions
        {
            ServerCertificate = certificate,
            ClientCertificateRequired = client is not null,
            // It is the test that looks at it.
            RemoteCertificateValidationCallback = (_, shown, _, _) => client is not null || shown is null,
        });
        client?.Invoke(tls.RemoteCertificate);
        _tls = tls;
    }

    /// <summary>As <see cref="StartTls"/>, but the client must break the handshake off.</summary>
    internal void FailTls(X509Certificate2 certificate)
    {
        Exception? failure = Record.Exception(() =>
        {
            StartTls(certificate);
            Drain();
        });
        Assert.True(failure is IOException or AuthenticationException, $"the client did not refuse: {failure}");
    }

    /// <summary>Says that nothing more comes, as TLS does (close_notify).</summary>
    internal void EndTls() => _tls!.ShutdownAsync().WaitAsync(FakeNbdServer.TimeLimit).GetAwaiter().GetResult();

    public void Dispose()
    {
        // SslStream says no goodbye when it is disposed.
        _tls?.Dispose();
        _socket.Dispose();
    }

    private string Transcript => string.Join('\n', _transcript.TakeLast(40));

    private int ReceiveSome(Span<byte> buffer)
    {
        try
        {
            return _tls?.Read(buffer) ?? _socket.Receive(buffer);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            return 0;
        }
    }

    // SIOCOUTQ counts what the other side of a Unix socket has not read.
    private unsafe void WaitUntilRead()
    {
        const int SiocOutQ = 0x5411;
        long start = Stopwatch.GetTimestamp();
        int unread = 1;
        while (unread > 0)
        {
            Assert.True(
                Stopwatch.GetElapsedTime(start) < FakeNbdServer.TimeLimit, $"the client does not read\n{Transcript}");
            Thread.Yield();
            if (LibC.ioctl((int)_socket.Handle, SiocOutQ, &unread) < 0)
            {
                return;
            }
        }
    }

    private void Note(string who, byte[] bytes)
    {
        string hex = Convert.ToHexStringLower(bytes.AsSpan(0, Math.Min(bytes.Length, MaximumTranscript)));
        _transcript.Add($"{who}: {hex}{(bytes.Length > MaximumTranscript ? "..." : "")}");
    }
}
