using System.Net.Security;
using System.Security.Authentication;
using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>TLS over another transport, which it owns.</summary>
internal sealed unsafe class TlsTransport : ServerTransport
{
    private const int StagingBytes = 64 * 1024;

    private readonly ServerTransport _inner;
    private readonly SslStream _stream;
    // Small pieces are put together: each write becomes a record of its own. Used by the sending thread alone.
    private readonly byte[] _staging = new byte[StagingBytes];

    /// <summary>Does the TLS handshake, until the deadline of <paramref name="inner"/>.</summary>
    /// <exception cref="LostClientException">It failed.</exception>
    public TlsTransport(ServerTransport inner, SslServerAuthenticationOptions options)
    {
        _inner = inner;
        _stream = new SslStream(new TransportStream(inner), leaveInnerStreamOpen: true);
        try
        {
            _stream.AuthenticateAsServer(options);
        }
        catch (Exception exception) when (exception is AuthenticationException or IOException)
        {
            _stream.Dispose();
            throw new LostClientException($"the TLS handshake failed: {(exception.InnerException ?? exception).Message}");
        }
    }

    /// <inheritdoc/>
    public override Deadline Deadline
    {
        get => _inner.Deadline;
        set => _inner.Deadline = value;
    }

    /// <inheritdoc/>
    public override Deadline RequestDeadline
    {
        get => _inner.RequestDeadline;
        set => _inner.RequestDeadline = value;
    }

    /// <inheritdoc/>
    public override bool CanSendWithoutBlocking => false;

    /// <inheritdoc/>
    public override int Receive(byte* destination, int wanted, bool all)
    {
        try
        {
            return _stream.Read(new Span<byte>(destination, wanted));
        }
        catch (Exception exception) when (exception is IOException or ObjectDisposedException)
        {
            return 0;
        }
    }

    /// <inheritdoc/>
    public override long Send(iovec* vectors, int count, bool mayBlock)
    {
        try
        {
            long sent = 0;
            int staged = 0;
            for (int i = 0; i < count; i++)
            {
                ReadOnlySpan<byte> bytes = new(vectors[i].iov_base, (int)vectors[i].iov_len);
                if (staged + bytes.Length > StagingBytes)
                {
                    _stream.Write(_staging, 0, staged);
                    staged = 0;
                }

                if (bytes.Length > StagingBytes)
                {
                    _stream.Write(bytes);
                }
                else
                {
                    bytes.CopyTo(_staging.AsSpan(staged));
                    staged += bytes.Length;
                }

                sent += bytes.Length;
            }

            _stream.Write(_staging, 0, staged);
            return sent;
        }
        catch (Exception exception) when (exception is IOException or ObjectDisposedException)
        {
            return -1;
        }
    }

    /// <inheritdoc/>
    public override void StopReceiving() => _inner.StopReceiving();

    /// <inheritdoc/>
    public override void FinishSending()
    {
        try
        {
            // close_notify.
            _stream.ShutdownAsync().GetAwaiter().GetResult();
        }
        catch (Exception exception) when (exception is IOException or InvalidOperationException)
        {
            // The client left first.
        }

        _inner.FinishSending();
    }

    /// <inheritdoc/>
    public override void Abort() => _inner.Abort();

    /// <inheritdoc/>
    public override void Dispose()
    {
        _stream.Dispose();
        _inner.Dispose();
    }
}
