using Linux;

namespace Nbd;

/// <summary>
/// The handshake of one connection, option by option (proto.md, "Option haggling"): for programs that look at several
/// exports before they open one, or that want to choose what is agreed on. <see cref="NbdClient"/> does all of it by
/// itself. Options may be asked for in any order and as often as wanted; nothing is sent that was not asked for, but for
/// TLS (<see cref="ConnectAsync(NbdEndpoint, NbdClientOptions?, CancellationToken)"/>).
/// <para>
/// An error that the server answers with leaves the connection as it was, and the next step is possible
/// (<see cref="IsOpen"/>); only NBD_REP_ERR_SHUTDOWN obliges us to leave. A server that breaks the protocol, a step without
/// an answer within the time limit, and one that is cancelled on the way end the connection.
/// </para>
/// <para>
/// It ends in <see cref="GoAsync"/>, which makes an <see cref="NbdClient"/> of the connection, or in
/// <see cref="DisposeAsync"/>, which sends NBD_OPT_ABORT. All members are thread-safe; steps are taken one after the other.
/// </para>
/// </summary>
public sealed partial class NbdNegotiation : IAsyncDisposable
{
    private readonly NbdClientOptions _options;
    private readonly OptionPhase _connection;
    // Held by the step in progress: it alone touches the connection.
    private readonly Lock _turn = new();
    private NbdException? _failure;
    private volatile bool _isOver;

    private NbdNegotiation(NbdEndpoint endpoint, NbdClientOptions options, CancellationToken cancellationToken)
    {
        Endpoint = endpoint;
        _options = options;
        _connection = new OptionPhase(endpoint, options, cancellationToken);
    }

    /// <summary>The server, as it was named when connecting.</summary>
    public NbdEndpoint Endpoint { get; }

    /// <summary>
    /// Whether the server takes options: fixed newstyle. Others have nothing but an export to go to; one that speaks the
    /// oldstyle protocol also lists it and tells about it.
    /// </summary>
    public bool TakesOptions => _connection.Handshake.TakesOptions;

    /// <summary>Whether another step is possible.</summary>
    public bool IsOpen => !_isOver && _failure is null;

    /// <summary>Whether the connection uses TLS.</summary>
    public bool IsEncrypted => _connection.Handshake.IsEncrypted;

    /// <summary>Whether structured replies, or extended headers, were agreed on.</summary>
    public bool StructuredReplies => _connection.Handshake.StructuredReplies;

    /// <summary>Whether extended headers were agreed on.</summary>
    public bool ExtendedHeaders => _connection.Handshake.ExtendedHeaders;

    /// <summary>Connects to the server that a URI names. The URI's export name means nothing here.</summary>
    /// <param name="uri">As for <see cref="NbdClient.ConnectAsync(string, NbdClientOptions?, CancellationToken)"/>.</param>
    /// <param name="options">As for the overload with an endpoint; an nbds URI requires TLS whatever they say.</param>
    /// <param name="cancellationToken">Gives up at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">As for <see cref="NbdClient"/>.</exception>
    /// <exception cref="NbdException">As for <see cref="NbdClient"/>.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static async Task<NbdNegotiation> ConnectAsync(
        string uri, NbdClientOptions? options = null, CancellationToken cancellationToken = default)
    {
        NbdUri parsed = NbdUri.Parse(uri);
        return await ConnectAsync(parsed.Endpoint, parsed.Over(options ?? new NbdClientOptions()), cancellationToken)
            .ConfigureAwait(false);
    }

    /// <summary>
    /// Connects, starts the server first if the endpoint is a command, and exchanges greetings. TLS that is required
    /// (<see cref="NbdTlsPolicy.Require"/>) is started at once, before anything else can be said; TLS that is allowed waits for
    /// <see cref="StartTlsAsync"/>.
    /// </summary>
    /// <param name="endpoint">The server.</param>
    /// <param name="options">
    /// How; null for the defaults. <see cref="NbdClientOptions.ConnectTimeout"/> limits this, and each step anew.
    /// <see cref="NbdClientOptions.Connections"/>, <see cref="NbdClientOptions.MetaContexts"/> and
    /// <see cref="NbdClientOptions.ExtendedHeaders"/> have no effect: there is one connection, and the rest are steps.
    /// </param>
    /// <param name="cancellationToken">Gives up at once.</param>
    /// <exception cref="ArgumentOutOfRangeException">As for <see cref="NbdClient"/>.</exception>
    /// <exception cref="NbdException">As for <see cref="NbdClient"/>, without those about the export.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static Task<NbdNegotiation> ConnectAsync(
        NbdEndpoint endpoint, NbdClientOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        NbdClientOptions chosen = options ?? new NbdClientOptions();
        chosen.Check(nameof(options));
        return RunBlocking(() => new NbdNegotiation(endpoint, chosen, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Waits for a step in progress, sends NBD_OPT_ABORT, whose answer is not waited for, and disconnects. A server that was
    /// started for us has ended afterwards. After <see cref="GoAsync"/> there is nothing left to do.
    /// </summary>
    public async ValueTask DisposeAsync()
    {
        if (!_isOver)
        {
            using (_connection)
            {
                await RunBlocking(Close, CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Takes a step when it is its turn.</summary>
    private Task<T> StepAsync<T>(Func<NbdHandshake, T> step, CancellationToken cancellationToken) => RunBlocking(
        () =>
        {
            lock (_turn)
            {
                cancellationToken.ThrowIfCancellationRequested();
                ObjectDisposedException.ThrowIf(_isOver, this);
                return _failure is null
                    ? Take(step, cancellationToken)
                    : throw new NbdException(
                        $"{Endpoint}: the negotiation ended at an earlier step: {_failure.Message}", _failure.Errno, _failure);
            }
        },
        cancellationToken);

    private T Take<T>(Func<NbdHandshake, T> step, CancellationToken cancellationToken)
    {
        NbdHandshake handshake = _connection.Handshake;
        handshake.BeginStep(Deadline.After(_options.ConnectTimeout), cancellationToken);
        try
        {
            T result = step(handshake);
            return !handshake.IsShuttingDown
                ? result
                : throw new NbdException($"{Endpoint}: the server is shutting down", Errno.ESHUTDOWN);
        }
        catch (Exception exception) when (
            exception is NbdProtocolException || handshake.IsShuttingDown || !handshake.IsAnswered)
        {
            _failure = exception as NbdException ?? new NbdException(exception.Message, Errno.ECANCELED, exception);
            handshake.Leave();
            throw;
        }
    }

    private NbdClient Enter(NegotiatedConnection negotiated)
    {
        NbdClient client = new(_connection.Enter(negotiated), _options);
        _isOver = true;
        return client;
    }

    private bool Close()
    {
        lock (_turn)
        {
            bool isFirst = !_isOver;
            _isOver = true;
            if (isFirst)
            {
                _connection.Close();
            }

            return isFirst;
        }
    }

    // The conversation blocks: each part gets a thread of its own for the moment.
    private static Task<T> RunBlocking<T>(Func<T> work, CancellationToken cancellationToken) =>
        Task.Factory.StartNew(work, cancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
}
