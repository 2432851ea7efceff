namespace Nbd;

/// <content>
/// The steps. Each throws <see cref="ObjectDisposedException"/> after the end, and an <see cref="NbdException"/> if the
/// connection ended at an earlier step.
/// </content>
public sealed partial class NbdNegotiation
{
    /// <summary>
    /// Asks for TLS and starts it (proto.md, "NBD_OPT_STARTTLS"). The server forgets what was agreed on and selected before;
    /// it has to be asked for again.
    /// </summary>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>
    /// Whether the connection is encrypted: true at once if it is already; false if the server refused, or takes no options, so
    /// that all can be read by others as before.
    /// </returns>
    /// <exception cref="InvalidOperationException">
    /// <see cref="NbdTlsPolicy.Disable"/>: there is nothing to start it with.
    /// </exception>
    /// <exception cref="NbdException">
    /// EACCES: the server is not to be trusted. ECONNRESET, ETIMEDOUT, EPROTO. The connection has ended with each of them.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<bool> StartTlsAsync(CancellationToken cancellationToken = default) =>
        _options.Tls.Policy == NbdTlsPolicy.Disable
            ? throw new InvalidOperationException("TLS is off: connect with NbdTlsPolicy.Allow or NbdTlsPolicy.Require.")
            : StepAsync(handshake => handshake.StartTls(), cancellationToken);

    /// <summary>Asks for structured replies (proto.md, "NBD_OPT_STRUCTURED_REPLY").</summary>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>
    /// Whether they are agreed on: true at once if they were, or extended headers; false if the server refused.
    /// </returns>
    /// <exception cref="NbdException">
    /// ESHUTDOWN: the server is about to end. ECONNRESET, ETIMEDOUT, EPROTO. The connection has ended with each of them.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<bool> RequestStructuredRepliesAsync(CancellationToken cancellationToken = default) =>
        StepAsync(handshake => handshake.AgreeToStructuredReplies(), cancellationToken);

    /// <summary>
    /// Asks for extended headers (proto.md of the branch extension-ext-header, "NBD_OPT_EXTENDED_HEADERS"), which take the
    /// place of structured replies.
    /// </summary>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>Whether they are agreed on: true at once if they were; false if the server refused.</returns>
    /// <exception cref="NbdException">As for <see cref="RequestStructuredRepliesAsync"/>.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<bool> RequestExtendedHeadersAsync(CancellationToken cancellationToken = default) =>
        StepAsync(handshake => handshake.AgreeToExtendedHeaders(), cancellationToken);

    /// <summary>Lists the exports of the server (proto.md, "NBD_OPT_LIST").</summary>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>In the server's order, without details.</returns>
    /// <exception cref="NbdException">
    /// EOPNOTSUPP, EACCES, EINVAL: the server cannot or will not list them. EOVERFLOW: there are more than 10,000, ESHUTDOWN,
    /// ECONNRESET, ETIMEDOUT, EPROTO: the connection has ended.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<IReadOnlyList<NbdListedExport>> ListExportsAsync(CancellationToken cancellationToken = default) =>
        StepAsync(handshake => handshake.ListExports(withDetails: false), cancellationToken);

    /// <summary>
    /// Lists the meta contexts of an export (proto.md, "NBD_OPT_LIST_META_CONTEXT"). The specification advises to agree on
    /// structured replies first: servers may refuse without.
    /// </summary>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="queries">
    /// As for <see cref="NbdClient.ListMetaContextsAsync(string, IReadOnlyList{string}, NbdClientOptions?, CancellationToken)"/>;
    /// none: all.
    /// </param>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>In the server's order, each once.</returns>
    /// <exception cref="NbdException">
    /// ENOENT: no such export. EINVAL, EOPNOTSUPP, EACCES, ENAMETOOLONG: a query is impossible, or the server refused.
    /// ESHUTDOWN, ECONNRESET, ETIMEDOUT, EPROTO: the connection has ended.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<IReadOnlyList<string>> ListMetaContextsAsync(
        string exportName, IReadOnlyList<string> queries, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(exportName);
        ArgumentNullException.ThrowIfNull(queries);
        return StepAsync(handshake => handshake.ListMetaContexts(exportName, queries), cancellationToken);
    }

    /// <summary>
    /// Selects meta contexts (proto.md, "NBD_OPT_SET_META_CONTEXT"), in place of those that were selected before, also when it
    /// fails. They count for <see cref="GoAsync"/> to the same export only.
    /// </summary>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="queries">
    /// Names such as "base:allocation", at most <see cref="NbdClientOptions.MaximumMetaContexts"/> of at most 4096 bytes of
    /// UTF-8. None: none is selected.
    /// </param>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>Those that the server selected, sorted as <see cref="NbdExport.MetaContexts"/>.</returns>
    /// <exception cref="NbdException">
    /// As for <see cref="ListMetaContextsAsync"/>; EINVAL also: neither structured replies nor extended headers were agreed on.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<IReadOnlyList<string>> SetMetaContextsAsync(
        string exportName, IReadOnlyList<string> queries, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(exportName);
        ArgumentNullException.ThrowIfNull(queries);
        return StepAsync(handshake => handshake.SetMetaContexts(exportName, queries), cancellationToken);
    }

    /// <summary>Asks about an export without opening it (proto.md, "NBD_OPT_INFO").</summary>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>
    /// The facts, as they are with what was agreed on until now; the meta contexts are those selected for this export.
    /// </returns>
    /// <exception cref="NbdException">
    /// ENOENT: no such export. EOPNOTSUPP, EACCES, EINVAL: the server cannot or will not tell; EOPNOTSUPP also: it requires TLS
    /// or extended headers for that. EFBIG: it has more than 2^63-1 bytes, ESHUTDOWN, ECONNRESET, ETIMEDOUT, EPROTO: the
    /// connection has ended.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<NbdExport> InfoAsync(string exportName = "", CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(exportName);
        return StepAsync(handshake => handshake.Info(exportName), cancellationToken);
    }

    /// <summary>
    /// Opens an export (proto.md, "NBD_OPT_GO"), which ends the negotiation. A server that does not know NBD_OPT_GO is asked by
    /// NBD_OPT_EXPORT_NAME, to which it can only refuse by closing the connection.
    /// </summary>
    /// <param name="exportName">
    /// Name of the export; "" is the server's default export. If it is not the one that
    /// <see cref="SetMetaContextsAsync"/> named last, there are no meta contexts.
    /// </param>
    /// <param name="cancellationToken">Gives up at once, which ends the connection.</param>
    /// <returns>
    /// The export, over this one connection. It owns the connection, and the server if that was started for us.
    /// </returns>
    /// <exception cref="NbdException">As for <see cref="InfoAsync"/>: after a refusal another export may be tried.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public Task<NbdClient> GoAsync(string exportName = "", CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(exportName);
        return StepAsync(handshake => Enter(handshake.Go(exportName)), cancellationToken);
    }
}
