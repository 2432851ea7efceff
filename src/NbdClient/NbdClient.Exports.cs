namespace Nbd;

/// <content>Questions to a server that do not open an export.</content>
public sealed partial class NbdClient
{
    /// <summary>Lists the exports of the server that a URI names. The URI's export name means nothing here.</summary>
    /// <param name="uri">As for <see cref="ConnectAsync(string, NbdClientOptions?, CancellationToken)"/>.</param>
    /// <param name="options">How to connect; null for the defaults.</param>
    /// <param name="withDetails">
    /// Whether to ask for each export's facts (NBD_OPT_INFO) and meta contexts (NBD_OPT_LIST_META_CONTEXT).
    /// </param>
    /// <param name="cancellationToken">Gives up at once.</param>
    /// <returns>In the server's order.</returns>
    /// <exception cref="ArgumentOutOfRangeException">As for connecting.</exception>
    /// <exception cref="NbdException">
    /// As for connecting; EOPNOTSUPP, EACCES: the server cannot or will not list; EOVERFLOW: there are more than
    /// 10,000 exports. A handshake that brings more than 64 MiB in all is a broken one (EPROTO).
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static async Task<IReadOnlyList<NbdListedExport>> ListExportsAsync(
        string uri,
        NbdClientOptions? options = null,
        bool withDetails = false,
        CancellationToken cancellationToken = default)
    {
        NbdUri parsed = NbdUri.Parse(uri);
        return await ListExportsAsync(
            parsed.Endpoint, parsed.Over(options ?? new NbdClientOptions()), withDetails, cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>Lists the exports of an endpoint, which is started first if it is a command.</summary>
    /// <inheritdoc cref="ListExportsAsync(string, NbdClientOptions?, bool, CancellationToken)"/>
    /// <param name="endpoint">The server.</param>
    /// <param name="options">How to connect; null for the defaults.</param>
    /// <param name="withDetails">
    /// Whether to ask for each export's facts (NBD_OPT_INFO) and meta contexts (NBD_OPT_LIST_META_CONTEXT).
    /// </param>
    /// <param name="cancellationToken">Gives up at once.</param>
    public static Task<IReadOnlyList<NbdListedExport>> ListExportsAsync(
        NbdEndpoint endpoint,
        NbdClientOptions? options = null,
        bool withDetails = false,
        CancellationToken cancellationToken = default) =>
        AskAsync(endpoint, "", options, handshake => handshake.ListExports(withDetails), cancellationToken);

    /// <summary>
    /// Asks about the export that a URI names without opening it (NBD_OPT_INFO, NBD_OPT_LIST_META_CONTEXT).
    /// </summary>
    /// <param name="uri">As for <see cref="ConnectAsync(string, NbdClientOptions?, CancellationToken)"/>.</param>
    /// <param name="options">How to connect; null for the defaults.</param>
    /// <param name="cancellationToken">Gives up at once.</param>
    /// <returns>
    /// The facts, with all <see cref="NbdExport.MetaContexts"/> that can be asked for when connecting.
    /// </returns>
    /// <exception cref="ArgumentOutOfRangeException">As for connecting.</exception>
    /// <exception cref="NbdException">As for connecting; EOPNOTSUPP also: the server cannot tell.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static async Task<NbdExport> GetExportAsync(
        string uri, NbdClientOptions? options = null, CancellationToken cancellationToken = default)
    {
        NbdUri parsed = NbdUri.Parse(uri);
        return await GetExportAsync(
            parsed.Endpoint, parsed.ExportName, parsed.Over(options ?? new NbdClientOptions()), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>Asks about an export of an endpoint, which is started first if it is a command.</summary>
    /// <inheritdoc cref="GetExportAsync(string, NbdClientOptions?, CancellationToken)"/>
    /// <param name="endpoint">The server.</param>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="options">How to connect; null for the defaults.</param>
    /// <param name="cancellationToken">Gives up at once.</param>
    public static Task<NbdExport> GetExportAsync(
        NbdEndpoint endpoint,
        string exportName = "",
        NbdClientOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(exportName);
        return AskAsync(endpoint, exportName, options, handshake => handshake.DescribeExport(), cancellationToken);
    }

    /// <summary>
    /// Lists meta contexts of the export that a URI names (NBD_OPT_LIST_META_CONTEXT), without opening it.
    /// </summary>
    /// <param name="uri">As for <see cref="ConnectAsync(string, NbdClientOptions?, CancellationToken)"/>.</param>
    /// <param name="queries">
    /// Which: names such as "base:allocation", or what the server takes for several, such as "base:", "qemu:" or
    /// "qemu:dirty-bitmap:"; at most <see cref="NbdClientOptions.MaximumMetaContexts"/> of at most 4096 bytes of UTF-8, each
    /// with a namespace and a colon. None: all.
    /// </param>
    /// <param name="options">How to connect; null for the defaults.</param>
    /// <param name="cancellationToken">Gives up at once.</param>
    /// <returns>
    /// The answer of the server to all queries together: names in its order, each once. A query that matches nothing, or
    /// whose namespace it does not know, adds none.
    /// </returns>
    /// <exception cref="ArgumentOutOfRangeException">As for connecting.</exception>
    /// <exception cref="NbdException">
    /// As for connecting. EINVAL also: a query is impossible, or the server calls it so; EOPNOTSUPP also: the server has no
    /// meta contexts; ENAMETOOLONG: there are too many queries for it.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static async Task<IReadOnlyList<string>> ListMetaContextsAsync(
        string uri,
        IReadOnlyList<string> queries,
        NbdClientOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        NbdUri parsed = NbdUri.Parse(uri);
        return await ListMetaContextsAsync(
            parsed.Endpoint,
            parsed.ExportName,
            queries,
            parsed.Over(options ?? new NbdClientOptions()),
            cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Lists meta contexts of an export of an endpoint, which is started first if it is a command.</summary>
    /// <inheritdoc cref="ListMetaContextsAsync(string, IReadOnlyList{string}, NbdClientOptions?, CancellationToken)"/>
    /// <param name="endpoint">The server.</param>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="queries">As for the overload with a URI.</param>
    /// <param name="options">How to connect; null for the defaults.</param>
    /// <param name="cancellationToken">Gives up at once.</param>
    public static Task<IReadOnlyList<string>> ListMetaContextsAsync(
        NbdEndpoint endpoint,
        string exportName,
        IReadOnlyList<string> queries,
        NbdClientOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(exportName);
        ArgumentNullException.ThrowIfNull(queries);
        return AskAsync(
            endpoint, exportName, options, handshake => handshake.QueryMetaContexts(queries), cancellationToken);
    }

    private static Task<T> AskAsync<T>(
        NbdEndpoint endpoint,
        string exportName,
        NbdClientOptions? options,
        Func<NbdHandshake, T> question,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        NbdClientOptions chosen = options ?? new NbdClientOptions();
        chosen.Check(nameof(options));

        // The conversation blocks: it gets a thread of its own for the moment.
        return Task.Factory.StartNew(
            () => ServerQuestion.Ask(endpoint, exportName, chosen, question, cancellationToken),
            cancellationToken,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
    }
}
