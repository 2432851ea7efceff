using Linux;

namespace Fuse;

/// <summary>How a session serves its mount.</summary>
public sealed record FuseSessionOptions
{
    /// <summary>Threads that read requests, 1 to 64.</summary>
    public int Workers { get; init; } = 2;

    /// <summary>
    /// Each worker but the first reads from its own clone of the device: less contention in the kernel, worth it
    /// from about 8 processors on.
    /// </summary>
    public bool CloneDevice { get; init; } = Environment.ProcessorCount >= 8;

    /// <summary>Most data of one READ or WRITE in bytes, 4096 to 16 MiB. The kernel may allow less.</summary>
    public int MaxRequestBytes { get; init; } = 1 << 20;

    /// <summary>Most background requests (read-ahead, asynchronous direct I/O) that the kernel keeps in flight.</summary>
    public ushort MaxBackground { get; init; } = 256;

    /// <summary>From this many background requests on the kernel skips read-ahead.</summary>
    public ushort CongestionThreshold { get; init; } = 192;

    /// <summary>
    /// The kernel drops cached pages when a GETATTR shows another size or modify time. Otherwise it drops them only
    /// when told to (<see cref="FuseSession.NotifyInvalidateInode"/>) or at an open without
    /// <see cref="FuseOpenFlags.KeepCache"/>.
    /// </summary>
    public bool AutoInvalidateData { get; init; }

    /// <summary>
    /// Writes stay in the kernel's page cache and come later, many at a time. The kernel then keeps size and modify time
    /// of regular files itself: a program's write past the end grows its idea of the size without asking.
    /// </summary>
    public bool WritebackCache { get; init; }

    /// <summary>How long <see cref="FuseSession.Initialize"/> waits for the kernel.</summary>
    public TimeSpan InitializeTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Requests come through these rings (FUSE over io_uring), when the kernel offers that. They are served on the
    /// threads of the loops, which must outlive the session. Null for the device alone.
    /// </summary>
    public RingSet? Rings { get; init; }

    /// <summary>Gets a line for each request and each reply. Called from any thread, also in parallel. Null is off.</summary>
    public Action<string>? Trace { get; init; }

    /// <summary>Gets messages about what should not happen, rate limited. Called from any thread.</summary>
    public Action<string>? Warn { get; init; }
}
