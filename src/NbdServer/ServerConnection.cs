using Linux;

namespace Nbd;

/// <summary>One client from its connection to its end, on a thread of its own.</summary>
#pragma warning disable CA1001 // A source without timer and wait handle owns nothing, and may be cancelled late.
internal sealed class ServerConnection
#pragma warning restore CA1001
{
    // The backend's code runs on it too.
    private const int StackBytes = 1024 * 1024;

    private readonly NbdServerOptions _options;
    private readonly TlsIdentity? _tls;
    private readonly PayloadPool _pool;
    private readonly ServerLog _log;
    private readonly Action<ServerConnection> _ended;
    private readonly TaskCompletionSource _finished = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _cancellation = new();
    private volatile bool _isStopping;

    // Guards _isClosed: nothing is done to descriptors that are closed, and perhaps others' by now.
    private readonly Lock _gate = new();
    private readonly DescriptorTransport _descriptors;
    private bool _isClosed;

    /// <param name="descriptors">Owned from now on.</param>
    /// <param name="options">Limits, and what is served.</param>
    /// <param name="tls">The certificate, if there is one.</param>
    /// <param name="pool">Memory shared by all connections.</param>
    /// <param name="log">Takes what goes wrong.</param>
    /// <param name="ended">Called when the descriptors are closed.</param>
    public ServerConnection(
        DescriptorTransport descriptors,
        NbdServerOptions options,
        TlsIdentity? tls,
        PayloadPool pool,
        ServerLog log,
        Action<ServerConnection> ended)
    {
        _descriptors = descriptors;
        _options = options;
        _tls = tls;
        _pool = pool;
        _log = log;
        _ended = ended;
    }

    /// <summary>Ends with the connection; never fails.</summary>
    public Task Finished => _finished.Task;

    /// <summary>Begins to serve.</summary>
    /// <exception cref="OutOfMemoryException">There can be no more threads.</exception>
    public void Start() => new Thread(Run, StackBytes) { Name = "nbd client", IsBackground = true }.Start();

    /// <summary>Takes no more requests, finishes those that it has, flushes and ends.</summary>
    public void BeginStop()
    {
        _isStopping = true;
        lock (_gate)
        {
            if (!_isClosed)
            {
                _descriptors.StopReceiving();
            }
        }
    }

    /// <summary>Ends now.</summary>
    public void Abort()
    {
        lock (_gate)
        {
            if (_isClosed)
            {
                return;
            }

            _descriptors.Abort();
        }

        Cancel();
    }

    /// <summary>Closes what was never started.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _isClosed = true;
        }

        _descriptors.Dispose();
        _finished.SetResult();
    }

    private void Run()
    {
        ServerTransport transport = _descriptors;
        try
        {
            using InputBuffer input = new() { Transport = transport };
            try
            {
                Serve(input);
            }
            finally
            {
                // With TLS it is another one.
                transport = input.Transport;
            }

            transport.FinishSending();
        }
        catch (LostClientException exception)
        {
            _log.Write($"a client was cut off: {exception.Message}");
        }
        catch (Exception exception)
        {
            _log.Write($"a client was cut off: {exception}");
        }
        finally
        {
            lock (_gate)
            {
                _isClosed = true;
                transport.Dispose();
            }

            _ended(this);
            _finished.SetResult();
        }
    }

    private void Serve(InputBuffer input)
    {
        NegotiatedExport? negotiated = Negotiate(input);
        if (negotiated is null)
        {
            return;
        }

        NbdBackend backend = negotiated.Export.Backend;
        try
        {
            using RequestLoop loop = new(input, negotiated, _options, _pool, _log, () => _isStopping, _cancellation.Token);
            bool isInOrder = false;
            input.RequestTimeout = _options.RequestTimeout;
            try
            {
                isInOrder = loop.Run();
            }
            finally
            {
                if (!isInOrder)
                {
                    Cancel();
                }

                loop.Finish();
            }

            if (_isStopping && negotiated.Export.Has(NbdBackendCapabilities.Flush) && !negotiated.Export.IsReadOnly)
            {
                Wait(backend.FlushAsync(CancellationToken.None));
            }
        }
        finally
        {
            Wait(backend.DisposeAsync());
        }
    }

    private NegotiatedExport? Negotiate(InputBuffer input)
    {
        input.Transport.Deadline = Deadline.After(_options.HandshakeTimeout);
        ServerHandshake handshake = new(input, _options, _tls, _log, () => _isStopping, _cancellation.Token);
        try
        {
            NegotiatedExport? negotiated = handshake.Run();
            input.Transport.Deadline = Deadline.Never;
            return negotiated;
        }
        finally
        {
            Wait(handshake.DisposeAsync());
        }
    }

    private void Cancel()
    {
        try
        {
            _cancellation.Cancel();
        }
        catch (AggregateException exception)
        {
            _log.Write($"a backend failed to cancel: {PlainText.From(exception.Message)}");
        }
    }

    private static void Wait(ValueTask task)
    {
        if (!task.IsCompleted)
        {
            task.AsTask().GetAwaiter().GetResult();
            return;
        }

        task.GetAwaiter().GetResult();
    }
}
