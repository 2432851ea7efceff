using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// How to connect. Immutable after construction. Each time limit is more than nothing and at most 2^31-1 milliseconds, or
/// <see cref="Timeout.InfiniteTimeSpan"/> for none.
/// </summary>
public sealed record NbdClientOptions
{
    /// <summary>Most meta contexts of a connection.</summary>
    public const int MaximumMetaContexts = 64;

    /// <summary>
    /// Number of connections, 1 to 1024, for a server that allows more than one; null chooses
    /// min(4, max(2, CPUs / 2)), with rings min(8, CPUs). A server that allows only one gets one. Several are for large
    /// commands and slow servers; a program that awaits small ones from a server in memory is faster with one.
    /// </summary>
    public int? Connections { get; init; }

    /// <summary>
    /// Time limit for connecting and the handshakes (TLS and NBD) of one connection, together. Default: 10 s.
    /// </summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Time limit for each command of <see cref="NbdClient"/>. Default: none. A command that is not answered in time fails
    /// with ETIMEDOUT; as with a cancelled one, the server may still carry it out. A READ or WRITE of more than 1 MiB is
    /// several commands.
    /// </summary>
    public TimeSpan CommandTimeout { get; init; } = Timeout.InfiniteTimeSpan;

    /// <summary>
    /// Time limit for each step of <see cref="NbdClient.DisposeAsync"/>: the commands in flight, a last FLUSH, the
    /// end of the server if it was started for us. Default: 30 s.
    /// </summary>
    public TimeSpan CloseTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Whether callers that await a command of <see cref="NbdClient"/> may go on right on the thread that received the answer;
    /// by default they do so on the thread pool. That is faster and takes less processor time, but until the caller awaits again
    /// no other answer of that connection is received. So callers must not compute for long there, and one that waits for a
    /// command of the same client in another way than <c>await</c> (<see cref="Task.Wait()"/>, a lock) waits for ever. A captured
    /// context is kept, and failures and commands that are sent in parts may go on on the thread pool nevertheless.
    /// </summary>
    public bool AllowSynchronousContinuations { get; init; }

    /// <summary>Encryption of the connections. Default: none.</summary>
    public NbdTlsOptions Tls { get; init; } = new();

    /// <summary>
    /// Meta contexts to ask for, such as "base:allocation", at most <see cref="MaximumMetaContexts"/> names of at most
    /// 4096 bytes of UTF-8. <see cref="NbdExport.MetaContexts"/> tells which of them the server has: none is an error.
    /// </summary>
    public IReadOnlyList<string> MetaContexts { get; init; } = [];

    /// <summary>
    /// Whether to ask for extended headers; null does so when there are <see cref="MetaContexts"/> or the server
    /// insists. A server that does not know them is no error.
    /// </summary>
    public bool? ExtendedHeaders { get; init; }

    /// <summary>
    /// Whether to ask for <see cref="NbdExport.CanonicalName"/> and <see cref="NbdExport.Description"/> when
    /// connecting.
    /// </summary>
    public bool FullInfo { get; init; }

    /// <summary>
    /// Whether to ask for the block sizes that the server wants to be kept (NBD_INFO_BLOCK_SIZE); a server that needs them
    /// may refuse who does not. Those that it tells unasked are kept, too. Default: true.
    /// </summary>
    public bool RequestBlockSizes { get; init; } = true;

    /// <summary>
    /// Which of the handshake flags are answered, of those that the server sent (proto.md, "Handshake flags"). Without
    /// <see cref="NbdHandshakeFlags.FixedNewstyle"/> there are no options but EXPORT_NAME, so no TLS either. Default: all.
    /// </summary>
    public NbdHandshakeFlags HandshakeFlags { get; init; } = NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes;

    /// <summary>
    /// Whether <see cref="NbdConnectionPool"/> sends what the server said it does not take: parts of its blocks, and more than
    /// its largest payload. For tests of servers; <see cref="NbdClient"/> always keeps to both. Default: false.
    /// </summary>
    public bool IgnoreBlockSizes { get; init; }

    /// <summary>
    /// Plain sockets are driven by these loops, one for each connection: for a program that serves something else on
    /// the same threads. They outlive the connections. Null for threads of the connections' own.
    /// </summary>
    public RingSet? Rings { get; init; }

    /// <exception cref="ArgumentOutOfRangeException">What no client can keep.</exception>
    internal void Check(string parameter)
    {
        if (Connections is < 1 or > NbdConnectionPool.MaximumConnections)
        {
            throw new ArgumentOutOfRangeException(
                parameter,
                Connections,
                $"The number of connections must be 1 to {NbdConnectionPool.MaximumConnections}.");
        }

        CheckLimit(ConnectTimeout, nameof(ConnectTimeout), parameter);
        CheckLimit(CommandTimeout, nameof(CommandTimeout), parameter);
        CheckLimit(CloseTimeout, nameof(CloseTimeout), parameter);
    }

    private static void CheckLimit(TimeSpan limit, string name, string parameter)
    {
        if (limit != Timeout.InfiniteTimeSpan && (limit <= TimeSpan.Zero || limit.TotalMilliseconds > int.MaxValue))
        {
            throw new ArgumentOutOfRangeException(
                parameter, limit, $"{name} must be more than nothing and at most 2^31-1 milliseconds, or infinite.");
        }
    }
}
