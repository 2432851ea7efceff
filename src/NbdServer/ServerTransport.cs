using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>
/// The bytes from and to one client. One thread receives and one sends, at the same time; stopping and aborting may
/// come from any thread.
/// </summary>
internal abstract unsafe class ServerTransport : IDisposable
{
    /// <summary>When waiting for the client ends with <see cref="LostClientException"/>.</summary>
    public virtual Deadline Deadline { get; set; } = Deadline.Never;

    /// <summary>
    /// When <see cref="Receive"/> gives up a client that sends a request byte by byte, and returns 0; noticed no later
    /// than the transport's own receive timeout after that.
    /// </summary>
    public virtual Deadline RequestDeadline { get; set; } = Deadline.Never;

    /// <summary>Whether <see cref="Send"/> can be told not to block.</summary>
    public abstract bool CanSendWithoutBlocking { get; }

    /// <summary>Waits for bytes.</summary>
    /// <param name="destination">Where to.</param>
    /// <param name="wanted">Most bytes.</param>
    /// <param name="all">A hint that less than <paramref name="wanted"/> is of no use.</param>
    /// <returns>Bytes received; 0 when the client sends no more, or receiving was stopped.</returns>
    public abstract int Receive(byte* destination, int wanted, bool all);

    /// <summary>Sends some of the bytes.</summary>
    /// <returns>Bytes sent; 0 when it would block and may not; negative when the client is gone.</returns>
    public abstract long Send(iovec* vectors, int count, bool mayBlock);

    /// <summary>Sends all of the bytes, or nothing if the client is gone.</summary>
    public bool SendAll(ReadOnlySpan<byte> bytes)
    {
        fixed (byte* start = bytes)
        {
            for (int sent = 0; sent < bytes.Length;)
            {
                iovec rest = new() { iov_base = start + sent, iov_len = bytes.Length - sent };
                long count = Send(&rest, 1, mayBlock: true);
                if (count < 0)
                {
                    return false;
                }

                sent += (int)count;
            }
        }

        return true;
    }

    /// <summary>Makes <see cref="Receive"/> return 0 once it has returned what is there already.</summary>
    public abstract void StopReceiving();

    /// <summary>Says that no more will be sent.</summary>
    public abstract void FinishSending();

    /// <summary>Makes running and later calls end at once.</summary>
    public abstract void Abort();

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>The client broke the protocol or was too slow: the connection ends, and the log gets the message.</summary>
internal sealed class LostClientException(string message) : Exception(message);
