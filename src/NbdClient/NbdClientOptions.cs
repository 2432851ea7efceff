namespace Nbd;

/// <summary>How to connect. Immutable after construction.</summary>
public sealed record NbdClientOptions
{
    /// <summary>
    /// Number of connections, 1 to 1024, for a server that allows more than one; null chooses
    /// min(4, max(2, CPUs / 2)). A server that allows only one gets one.
    /// </summary>
    public int? Connections { get; init; }

    /// <summary>
    /// Time limit for connecting and the handshakes (TLS and NBD) of one connection, together;
    /// <see cref="Timeout.InfiniteTimeSpan"/> for none.
    /// </summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Time limit for each step of <see cref="NbdClient.DisposeAsync"/>: the commands in flight, a last FLUSH, the
    /// end of the server if it was started for us; <see cref="Timeout.InfiniteTimeSpan"/> for none.
    /// </summary>
    public TimeSpan CloseTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Encryption of the connections. Default: none.</summary>
    public NbdTlsOptions Tls { get; init; } = new();
}
