using Linux;

namespace Nbd;

/// <summary>What the handshake of one connection agreed on; its socket is in the transmission phase.</summary>
/// <param name="Export">The export that the connection serves.</param>
internal sealed record NegotiatedConnection(NbdExport Export)
{
    /// <summary>The ids that this connection has for <see cref="NbdExport.MetaContexts"/>, in their order.</summary>
    internal uint[] ContextIds { get; init; } = [];

    /// <summary>TLS on the socket; null when it is not encrypted. To be disposed with the connection.</summary>
    internal TlsSession? Tls { get; init; }

    /// <summary>What the transmission phase uses.</summary>
    /// <param name="socket">The socket. Taken over, as TLS is.</param>
    internal ConnectionTransport OpenTransport(SafeFd socket) =>
        Tls is null ? new SocketTransport(socket) : new TlsTransport(socket, Tls);
}
