using Linux;

namespace Nbd;

/// <summary>A connection that ends within the handshake.</summary>
internal static class ServerQuestion
{
    /// <summary>Starts the server if the endpoint says so, connects, asks, and leaves.</summary>
    /// <exception cref="NbdException">As for <see cref="NbdConnectionPool.Connect"/>.</exception>
    internal static T Ask<T>(
        NbdEndpoint endpoint,
        string exportName,
        NbdClientOptions options,
        Func<NbdHandshake, T> question,
        CancellationToken cancellationToken)
    {
        using TlsCredentials? tls = TlsCredentials.Read(options.Tls, endpoint);
        using CaptiveServer? captive = CaptiveServer.Start(endpoint);
        try
        {
            Deadline deadline = Deadline.After(options.ConnectTimeout);
            using SafeFd socket = SocketConnector.Connect(captive?.Address ?? endpoint, deadline, cancellationToken);
            return NbdHandshake.Ask(
                socket, exportName, endpoint.Describe(), deadline, options, question, tls, cancellationToken);
        }
        catch (NbdException exception) when (captive is not null)
        {
            throw captive.Explain(exception);
        }
        finally
        {
            captive?.Stop(Deadline.After(options.CloseTimeout));
        }
    }
}
