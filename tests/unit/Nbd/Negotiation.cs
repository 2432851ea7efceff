using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>A handshake alone, for an export of a server that follows a script.</summary>
internal static class Negotiation
{
    /// <summary>A handshake that both sides end in agreement.</summary>
    internal static NegotiatedConnection Agree(Action<FakePeer> script, string exportName = "") =>
        Agree(null, script, exportName);

    /// <summary>The same for a client with options.</summary>
    internal static NegotiatedConnection Agree(NbdClientOptions? options, Action<FakePeer> script, string exportName = "")
    {
        using FakeNbdServer server = new(script);
        NegotiatedConnection connection = Run(server, options, exportName);
        server.Finish();
        return connection;
    }

    /// <summary>A handshake that we break off.</summary>
    internal static NbdException Refuse(NbdClientOptions options, Action<FakePeer> script) => Refuse("", script, options);

    /// <summary>The same for an export, and for a script that may end before we do.</summary>
    internal static NbdException Refuse(
        string exportName,
        Action<FakePeer> script,
        NbdClientOptions? options = null,
        bool finish = true)
    {
        using FakeNbdServer server = new(script);
        NbdException exception = Assert.ThrowsAny<NbdException>(
            () => Run(server, options, exportName));
        if (finish)
        {
            server.Finish();
        }

        return exception;
    }

    /// <summary>The server's side up to a GO that is still to be answered.</summary>
    internal static void AnswerUpToGo(FakePeer peer, string exportName)
    {
        peer.AgreeToStructuredReplies();
        peer.Expect(Frame.GoFor(exportName));
    }

    private static NegotiatedConnection Run(FakeNbdServer server, NbdClientOptions? options, string exportName)
    {
        using SafeFd socket = SocketConnector.Connect(server.Endpoint, HandshakeTests.Soon(), CancellationToken.None);
        return NbdHandshake.Run(socket, exportName, "fake", HandshakeTests.Soon(), CancellationToken.None, options);
    }
}
