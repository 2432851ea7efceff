using Linux;

namespace Nbd;

/// <summary>
/// A connection whose options are chosen step by step, and the server if it was started for us. Not thread-safe.
/// </summary>
internal sealed class OptionPhase : IDisposable
{
    private readonly NbdEndpoint _endpoint;
    private readonly NbdClientOptions _options;
    private readonly TlsCredentials? _tls;
    private CaptiveServer? _captive;
    private readonly HandshakeChannel? _channel;
    private SafeFd? _socket;

    /// <summary>Starts the server if the endpoint says so, connects, and exchanges greetings.</summary>
    /// <exception cref="NbdException">As for <see cref="NbdConnectionPool.Connect"/>, without those about the export.</exception>
    internal OptionPhase(NbdEndpoint endpoint, NbdClientOptions options, CancellationToken cancellationToken)
    {
        (_endpoint, _options) = (endpoint, options);
        _tls = TlsCredentials.Read(options.Tls, endpoint);
        try
        {
            _captive = CaptiveServer.Start(endpoint);
            Deadline deadline = Deadline.After(options.ConnectTimeout);
            _socket = SocketConnector.Connect(_captive?.Address ?? endpoint, deadline, cancellationToken);
            _channel = new HandshakeChannel(_socket, endpoint.Describe(), deadline, cancellationToken);
            Handshake = NbdHandshake.Begin(_channel, endpoint.Describe(), options, _tls);
        }
        catch (NbdException exception)
        {
            NbdException explained = Explain(exception);
            Dispose();
            throw explained;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    internal NbdHandshake Handshake { get; }

    /// <summary>Makes a pool of the connection, which owns it from here on, and the server with it.</summary>
    /// <param name="negotiated">What GO agreed on.</param>
    internal NbdConnectionPool Enter(NegotiatedConnection negotiated)
    {
        NbdConnectionPool pool = NbdConnectionPool.Adopt(_endpoint, _captive, _socket!, negotiated, _options);
        (_captive, _socket) = (null, null);
        Dispose();
        return pool;
    }

    /// <summary>When the server is ours and has ended, or is just about to, that is the reason of a failure.</summary>
    internal NbdException Explain(NbdException failure) => _captive?.Explain(failure) ?? failure;

    /// <summary>Leaves, and ends the server if it was started for us.</summary>
    internal void Close()
    {
        Handshake.Leave();
        _captive?.Stop(Deadline.After(_options.CloseTimeout));
    }

    /// <summary>Cuts the connection, and kills the server if it is ours, unless a pool owns them.</summary>
    public void Dispose()
    {
        _channel?.Dispose();
        _socket?.Dispose();
        _captive?.Dispose();
        _tls?.Dispose();
    }
}
