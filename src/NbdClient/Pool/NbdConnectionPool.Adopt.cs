using Linux;

namespace Nbd;

/// <content>A pool of one connection whose handshake is over.</content>
public sealed unsafe partial class NbdConnectionPool
{
    /// <param name="endpoint">The server, as it was named.</param>
    /// <param name="captive">The server if it was started for us. Taken over.</param>
    /// <param name="socket">In the transmission phase. Taken over.</param>
    /// <param name="negotiated">What was agreed on. Its TLS is taken over.</param>
    /// <param name="options">As in <see cref="Connect"/>.</param>
    internal static NbdConnectionPool Adopt(
        NbdEndpoint endpoint, CaptiveServer? captive, SafeFd socket, NegotiatedConnection negotiated, NbdClientOptions options)
    {
        NbdConnectionPool pool = new(endpoint, captive, negotiated, connections: 1, options);
        pool.Add(0, socket, negotiated);
        return pool;
    }
}
