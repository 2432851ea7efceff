namespace Nbd;

/// <summary>See <see cref="NbdClient.AsStream"/>.</summary>
internal sealed class ExportStream(NbdClient client, bool leaveOpen) : Stream
{
    private long _position;
    private bool _isDisposed;

    /// <inheritdoc/>
    public override bool CanRead => !_isDisposed;

    /// <inheritdoc/>
    public override bool CanSeek => !_isDisposed;

    /// <inheritdoc/>
    public override bool CanWrite => !_isDisposed && !client.Export.IsReadOnly;

    /// <inheritdoc/>
    public override long Length
    {
        get
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            return client.SizeBytes;
        }
    }

    /// <inheritdoc/>
    public override long Position
    {
        get
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            return _position;
        }

        set
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            _position = value;
        }
    }

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin)
    {
        long start = origin switch
        {
            SeekOrigin.Begin => 0,
            SeekOrigin.Current => Position,
            SeekOrigin.End => Length,
            _ => throw new ArgumentException($"{origin} is no place to seek from.", nameof(origin)),
        };
        long position;
        try
        {
            position = checked(start + offset);
        }
        catch (OverflowException)
        {
            position = -1;
        }

        return position >= 0
            ? Position = position
            : throw new IOException($"A position {offset} bytes from {start} cannot be.");
    }

    /// <inheritdoc/>
    public override void SetLength(long value) =>
        throw new NotSupportedException("The size of an export cannot be changed.");

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(
        Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        long left = Length - _position;
        int count = (int)Math.Clamp(left, 0, buffer.Length);
        if (count > 0)
        {
            await client.ReadAsync(_position, buffer[..count], cancellationToken).ConfigureAwait(false);
            _position += count;
        }

        return count;
    }

    /// <inheritdoc/>
    public override Task<int> ReadAsync(
        byte[] buffer, int offset, int count, CancellationToken cancellationToken)
    {
        ValidateBufferArguments(buffer, offset, count);
        return ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count)
    {
        CheckMayWait();
        return ReadAsync(buffer, offset, count, CancellationToken.None).GetAwaiter().GetResult();
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(
        ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (!CanWrite)
        {
            throw new NotSupportedException("The export is read-only.");
        }

        await client.WriteAsync(_position, buffer, cancellationToken: cancellationToken).ConfigureAwait(false);
        _position += buffer.Length;
    }

    /// <inheritdoc/>
    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken)
    {
        ValidateBufferArguments(buffer, offset, count);
        return WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
    }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count)
    {
        CheckMayWait();
        WriteAsync(buffer, offset, count, CancellationToken.None).GetAwaiter().GetResult();
    }

    /// <inheritdoc/>
    public override Task FlushAsync(CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        return CanWrite ? client.FlushAsync(cancellationToken).AsTask() : Task.CompletedTask;
    }

    /// <inheritdoc/>
    public override void Flush()
    {
        CheckMayWait();
        FlushAsync(CancellationToken.None).GetAwaiter().GetResult();
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        await CloseAsync().ConfigureAwait(false);
        await base.DisposeAsync().ConfigureAwait(false);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && !_isDisposed)
        {
            if (!leaveOpen)
            {
                CheckMayWait();
            }

            CloseAsync().AsTask().GetAwaiter().GetResult();
        }

        base.Dispose(disposing);
    }

    /// <exception cref="InvalidOperationException">This thread would wait for what it has to receive.</exception>
    private void CheckMayWait()
    {
        if (client.ReceivesOnThisThread)
        {
            throw new InvalidOperationException(
                $"This thread receives the answer: with {nameof(NbdClientOptions.AllowSynchronousContinuations)} use await.");
        }
    }

    private ValueTask CloseAsync()
    {
        bool wasDisposed = _isDisposed;
        _isDisposed = true;
        return wasDisposed || leaveOpen ? ValueTask.CompletedTask : client.DisposeAsync();
    }
}
