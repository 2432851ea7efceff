namespace Nbd;

/// <summary>
/// What one connection serves from: derive from it and give it to an <c>NbdServer</c>. Only the size and
/// <see cref="ReadAsync"/> are needed; what is not overridden is not offered to clients.
/// <para>
/// A backend is opened for each connection and disposed after its last request. The server has checked every range:
/// it lies inside the export, is not empty and fits the announced block sizes. Requests of a connection run in
/// parallel unless <see cref="IsParallel"/> says otherwise. A method that can end at once should return a completed
/// task: then a request costs no thread hop and no allocation.
/// </para>
/// <para>
/// A method fails by throwing: <see cref="IOException"/> and its kin become the NBD error that fits (ENOSPC stays
/// ENOSPC), anything else EIO.
/// </para>
/// </summary>
public abstract class NbdBackend : IAsyncDisposable
{
    /// <summary>Size in bytes, 0 to 2^63-1. Read once, when the export is chosen.</summary>
    public abstract long SizeBytes { get; }

    /// <summary>What clients may do. Read once, when the export is chosen. Default: only read.</summary>
    public virtual NbdBackendCapabilities Capabilities => NbdBackendCapabilities.ReadOnly;

    /// <summary>
    /// Smallest block in bytes, a power of two from 1 to 65536: requests are multiples of it. Default 1.
    /// </summary>
    public virtual int MinimumBlockBytes => 1;

    /// <summary>Block size that is best for speed, in bytes, a power of two from 512. Default 4096.</summary>
    public virtual int PreferredBlockBytes => 4096;

    /// <summary>A text about the export for people; null for none.</summary>
    public virtual string? Description => null;

    /// <summary>Whether requests may run in parallel. If not, the server calls one at a time. Default true.</summary>
    public virtual bool IsParallel => true;

    /// <summary>Reads. All of <paramref name="destination"/> must be filled.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="destination">Where to; not to be touched after the task has ended.</param>
    /// <param name="cancellationToken">Cancelled when the connection ends.</param>
    public abstract ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken);

    /// <summary>Writes. Offered unless <see cref="NbdBackendCapabilities.ReadOnly"/> is set.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="source">The data; not to be touched after the task has ended.</param>
    /// <param name="forceUnitAccess">On stable storage before the task ends.</param>
    /// <param name="cancellationToken">Cancelled when the connection ends.</param>
    public virtual ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> source, bool forceUnitAccess, CancellationToken cancellationToken) =>
        throw new NotSupportedException("this backend does not write");

    /// <summary>
    /// Puts everything that was written before on stable storage. Offered with
    /// <see cref="NbdBackendCapabilities.Flush"/>.
    /// </summary>
    /// <param name="cancellationToken">Cancelled when the connection ends.</param>
    public virtual ValueTask FlushAsync(CancellationToken cancellationToken) => ValueTask.CompletedTask;

    /// <summary>
    /// Lets go of a range: its content is undefined afterwards. Offered with
    /// <see cref="NbdBackendCapabilities.Trim"/>. Default: nothing.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes; may be more than a request's payload.</param>
    /// <param name="forceUnitAccess">On stable storage before the task ends.</param>
    /// <param name="cancellationToken">Cancelled when the connection ends.</param>
    public virtual ValueTask TrimAsync(
        long offset, long length, bool forceUnitAccess, CancellationToken cancellationToken) =>
        ValueTask.CompletedTask;

    /// <summary>
    /// Makes a range read as zeroes. Offered with <see cref="NbdBackendCapabilities.WriteZeroes"/>.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes; may be more than a request's payload.</param>
    /// <param name="options">How.</param>
    /// <param name="cancellationToken">Cancelled when the connection ends.</param>
    /// <exception cref="NotSupportedException">
    /// Only with <see cref="NbdZeroOptions.Fast"/>: it would be slow, and nothing was changed.
    /// </exception>
    public virtual ValueTask WriteZeroesAsync(
        long offset, long length, NbdZeroOptions options, CancellationToken cancellationToken) =>
        throw new NotSupportedException("this backend does not write zeroes");

    /// <summary>
    /// Expects a range to be read soon. Offered with <see cref="NbdBackendCapabilities.Cache"/>. Default: nothing.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes; may be more than a request's payload.</param>
    /// <param name="cancellationToken">Cancelled when the connection ends.</param>
    public virtual ValueTask CacheAsync(long offset, long length, CancellationToken cancellationToken) =>
        ValueTask.CompletedTask;

    /// <summary>
    /// Tells which parts of a range are allocated: adds extents, in order and without gaps, from
    /// <paramref name="offset"/> on, until the range is covered, <paramref name="extents"/> takes no more, or it is
    /// too much work; at least one. Default: all data.
    /// </summary>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes; may be more than a request's payload.</param>
    /// <param name="extents">Takes the extents.</param>
    /// <param name="cancellationToken">Cancelled when the connection ends.</param>
    public virtual ValueTask ExtentsAsync(
        long offset, long length, NbdExtentList extents, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(extents);
        extents.TryAdd(length, NbdExtentFlags.Data);
        return ValueTask.CompletedTask;
    }

    /// <summary>Called after the last request of the connection.</summary>
    public virtual ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return ValueTask.CompletedTask;
    }
}

/// <summary>What a backend offers besides reading.</summary>
[Flags]
public enum NbdBackendCapabilities
{
    /// <summary>Writing, and nothing else.</summary>
    None = 0,

    /// <summary>No change of any kind.</summary>
    ReadOnly = 1 << 0,

    /// <summary>FLUSH.</summary>
    Flush = 1 << 1,

    /// <summary>Single requests on stable storage (FUA).</summary>
    ForceUnitAccess = 1 << 2,

    /// <summary>TRIM.</summary>
    Trim = 1 << 3,

    /// <summary>WRITE_ZEROES.</summary>
    WriteZeroes = 1 << 4,

    /// <summary>WRITE_ZEROES that would rather fail than be slow.</summary>
    FastZero = 1 << 5,

    /// <summary>CACHE.</summary>
    Cache = 1 << 6,

    /// <summary>All connections see one another's changes, and a FLUSH on one covers all.</summary>
    MultiConn = 1 << 7,

    /// <summary>The medium rotates.</summary>
    Rotational = 1 << 8,

    /// <summary><see cref="NbdBackend.ExtentsAsync"/> knows more than "all data".</summary>
    Extents = 1 << 9,
}

/// <summary>How zeroes are written.</summary>
[Flags]
public enum NbdZeroOptions
{
    /// <summary>The range may become a hole.</summary>
    None = 0,

    /// <summary>On stable storage before the task ends.</summary>
    ForceUnitAccess = 1 << 0,

    /// <summary>The range stays allocated.</summary>
    NoHole = 1 << 1,

    /// <summary>Rather fail than be slower than the client's own writes.</summary>
    Fast = 1 << 2,
}

/// <summary>What an extent is, with the bits of base:allocation (proto.md, "base:allocation").</summary>
[Flags]
public enum NbdExtentFlags : uint
{
    /// <summary>Allocated, with any content.</summary>
    Data = 0,

    /// <summary>Not allocated.</summary>
    Hole = 1 << 0,

    /// <summary>Reads as zeroes.</summary>
    Zero = 1 << 1,
}
