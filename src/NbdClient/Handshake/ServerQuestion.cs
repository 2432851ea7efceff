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
        using OptionPhase connection = new(endpoint, options, cancellationToken);
        try
        {
            connection.Handshake.StartTls();
            connection.Handshake.NameExport(exportName);
            return question(connection.Handshake);
        }
        catch (NbdException exception)
        {
            throw connection.Explain(exception);
        }
        finally
        {
            connection.Close();
        }
    }
}
