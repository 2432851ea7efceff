namespace Nbd;

/// <summary>What an <see cref="NbdServer"/> serves and which limits it keeps. Immutable.</summary>
public sealed record NbdServerOptions
{
    /// <summary>
    /// Opens what the export name stands for, for one connection, which disposes it; null when there is no such
    /// export. The name is the client's: any text of up to 4096 bytes, empty for the default export. Called on the
    /// thread of the connection, by many at once. What it throws is logged, and the client is told that the export
    /// is not available.
    /// </summary>
    public required Func<string, CancellationToken, ValueTask<NbdBackend?>> OpenExport { get; init; }

    /// <summary>The exports that a client gets when it asks for the list; null forbids the list.</summary>
    public Func<CancellationToken, ValueTask<IReadOnlyList<NbdExportDescription>>>? ListExports { get; init; }

    /// <summary>Offers every export only for reading.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>Most clients at a time; what comes beyond is closed at once. Default 1024.</summary>
    public int MaximumConnections { get; init; } = 1024;

    /// <summary>
    /// Time from the connection to the transmission phase, TLS included. A client that needs longer loses the
    /// connection. Default 10 seconds.
    /// </summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Time from the first byte of a request to its last; a second more for each 64 KiB of data. A client that needs
    /// longer loses the connection. Between requests it may be silent for ever. Default 60 seconds.
    /// </summary>
    public TimeSpan RequestTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Most requests of one connection that are served at a time, 1 to 1024. Default 64.</summary>
    public int MaximumRequestsInFlight { get; init; } = 64;

    /// <summary>
    /// Longest READ or WRITE in bytes, a power of two from 65536 to 64 MiB. Default 32 MiB, which clients may
    /// assume of every server.
    /// </summary>
    public int MaximumPayloadBytes { get; init; } = 32 * 1024 * 1024;

    /// <summary>
    /// Most memory in bytes for the data of all requests together, beyond what each connection has for itself: 16 KiB
    /// for each request, and one request of up to 1 MiB. When it is used up, requests wait, and fail with ENOMEM if
    /// that does not help. At least <see cref="MaximumPayloadBytes"/>; default 1 GiB.
    /// </summary>
    public long MaximumMemoryBytes { get; init; } = 1L << 30;

    /// <summary>TLS; null for none.</summary>
    public NbdServerTls? Tls { get; init; }

    /// <summary>
    /// Takes one line for each misbehaving client and failing backend, at most 50 a second. Called from any thread,
    /// must not throw. Null drops them.
    /// </summary>
    public Action<string>? Log { get; init; }

    /// <summary>
    /// Called after a client was there and its connection is closed, from the connection's thread, with the number
    /// of those that are still there. Must not throw.
    /// </summary>
    public Action<int>? ClientLeft { get; init; }
}

/// <summary>One line of the list of exports.</summary>
/// <param name="Name">Name that clients ask for, at most 4096 bytes of UTF-8.</param>
/// <param name="Description">A text for people; null for none.</param>
public sealed record NbdExportDescription(string Name, string? Description = null);
