using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// A server that is asked for its exports and connected to again and again, and that ends with us when we started it.
/// Thread-safe.
/// </summary>
internal sealed class ExportServer : IDisposable
{
    private readonly NbdEndpoint _endpoint;
    private readonly NbdClientOptions _options;
    private readonly CaptiveServer? _captive;

    private ExportServer(NbdEndpoint endpoint, NbdClientOptions options, CaptiveServer? captive)
    {
        (_endpoint, _options, _captive) = (endpoint, options, captive);
    }

    private NbdEndpoint Address => _captive?.Address ?? _endpoint;

    /// <summary>Starts the server if the endpoint says so.</summary>
    /// <exception cref="UsageException">It can be connected to only once.</exception>
    /// <exception cref="NbdException">The program cannot be run.</exception>
    internal static ExportServer Start(NbdEndpoint endpoint, NbdClientOptions options) =>
        endpoint is NbdEndpoint.Fd or NbdEndpoint.Command
            ? throw new UsageException(
                "--all needs a server that can be connected to more than once: a URI, --tcp, --unix, or "
                + "--socket-activation")
            : new ExportServer(endpoint, options, CaptiveServer.Start(endpoint));

    /// <summary>The server's exports, with what INFO tells about each.</summary>
    /// <exception cref="NbdException">The server cannot be reached or does not tell.</exception>
    internal async Task<IReadOnlyList<NbdListedExport>> List(CancellationToken cancellationToken)
    {
        try
        {
            return await NbdClient
                .ListExportsAsync(Address, _options, withDetails: true, cancellationToken).ConfigureAwait(false);
        }
        catch (NbdException exception) when (_captive is not null)
        {
            throw _captive.Explain(exception);
        }
    }

    /// <summary>Connects to an export. Blocks.</summary>
    /// <exception cref="NbdException">It cannot be connected to.</exception>
    internal NbdConnectionPool Connect(string exportName) =>
        NbdConnectionPool.Connect(Address, exportName, _options, CancellationToken.None);

    /// <summary>The URI of an export, for messages.</summary>
    internal string UriOf(string exportName) =>
        _endpoint.FormatUri(exportName, _options.Tls.Policy == NbdTlsPolicy.Require);

    /// <summary>Waits for a server of our own to end, and helps when it does not.</summary>
    internal void Stop(TimeSpan timeout) => _captive?.Stop(Deadline.After(timeout));

    /// <inheritdoc/>
    public void Dispose() => _captive?.Dispose();
}
