using Linux;

namespace Nbd;

/// <content>The start: the server, if it is ours, and the connections.</content>
public sealed unsafe partial class NbdConnectionPool
{
    /// <summary>
    /// Starts the server if the endpoint says so, and opens the connections: as many as
    /// <paramref name="options"/> ask for when the export allows more than one, otherwise one.
    /// </summary>
    /// <exception cref="NbdException">
    /// The server cannot be run or reached, or refuses the export; <see cref="NbdException.Errno"/> tells which.
    /// </exception>
    public static NbdConnectionPool Connect(
        NbdEndpoint endpoint, string exportName, NbdClientOptions options, CancellationToken cancellationToken)
    {
        using TlsCredentials? tls = TlsCredentials.Read(options.Tls, endpoint);
        CaptiveServer? captive = CaptiveServer.Start(endpoint);
        NbdConnectionPool? pool = null;
        try
        {
            NbdEndpoint address = captive?.Address ?? endpoint;
            (SafeFd socket, NegotiatedConnection negotiated) = Open();
            pool = new NbdConnectionPool(endpoint, captive, negotiated, Connections(negotiated), options);
            pool.Add(0, socket, negotiated);
            for (int i = 1; i < pool.ConnectionCount; i++)
            {
                try
                {
                    (socket, negotiated) = Open();
                }
                catch (NbdException exception) when (exception is not NbdProtocolException)
                {
                    throw new NbdException(
                        $"{exception.Message}; this was connection {i + 1} of {pool.ConnectionCount}: "
                        + "if the server takes no more clients, use one connection",
                        exception.Errno,
                        exception)
                    {
                        SuggestsOneConnection = true,
                    };
                }

                pool.Add(i, socket, negotiated);
            }

            return pool;

            // Two against one, on 2 processors, nbdkit and nbdserve with a disk in memory: by completions 1.0 to 2.4 times as
            // fast with 4 KiB at depth 32, 1.0 to 6.6 times with 256 KiB at depth 8; by await 0.5 to 1.2 and 1.0 to 1.8 times.
            // Four against two: mostly slower. With rings each processor has its connection.
            int Connections(NegotiatedConnection first) =>
                first.Export.CanMultiConn && address is not NbdEndpoint.Fd
                    ? options.Connections ?? (options.Rings is null || first.Tls is not null
                        ? Math.Min(4, Math.Max(2, Environment.ProcessorCount / 2))
                        : Math.Min(8, Environment.ProcessorCount))
                    : 1;

            (SafeFd Socket, NegotiatedConnection Negotiated) Open()
            {
                Deadline deadline = Deadline.After(options.ConnectTimeout);
                SafeFd opened = SocketConnector.Connect(address, deadline, cancellationToken);
                try
                {
                    return (opened, NbdHandshake.Run(
                        opened, exportName, endpoint.Describe(), deadline, cancellationToken, options, tls));
                }
                catch
                {
                    opened.Dispose();
                    throw;
                }
            }
        }
        catch (NbdException exception) when (captive is not null)
        {
            NbdException explained = captive.Explain(exception);
            Abandon();
            throw explained;
        }
        catch
        {
            Abandon();
            throw;
        }

        void Abandon()
        {
            if (pool is not null)
            {
                pool.Dispose();
            }
            else
            {
                captive?.Dispose();
            }
        }
    }

    private void Add(int index, SafeFd socket, NegotiatedConnection negotiated)
    {
        if (negotiated.Export != Export || negotiated.Tls is not null != IsEncrypted)
        {
            negotiated.Tls?.Dispose();
            socket.Dispose();
            throw new NbdException(
                $"{Endpoint}: connection {index + 1} found another export than the first one "
                + $"({negotiated.Export.SizeBytes} instead of {Export.SizeBytes} bytes, or other flags, or TLS on only one); "
                + "use one connection",
                Errno.EIO)
            {
                SuggestsOneConnection = true,
            };
        }

        ConnectionTransport transport = _rings is null
            ? negotiated.OpenTransport(socket)
            : new RingTransport(socket, _rings.Get(index));
        _connections[index] = new NbdConnection(transport, negotiated, Endpoint.Describe(), OnEnded)
        {
            Index = index,
            ServerError = error => ServerError?.Invoke(error),
            FlushFailed = () => Volatile.Write(ref _flushed, NotFlushed),
        };
        _connections[index].Start();
    }
}
