using Fuse;

namespace NbdFuse;

/// <summary>
/// What the kernel keeps of one file: its attributes and size. Its methods wait for pages that a request has
/// locked, so they must not be called from a thread that answers requests. Thread-safe.
/// </summary>
/// <param name="session">Where the kernel is told.</param>
/// <param name="node">The file's node.</param>
/// <param name="path">Where the file is.</param>
/// <param name="device">"MAJOR:MINOR" of the mount; null if it was handed over.</param>
internal sealed class KernelCache(FuseSession session, ulong node, string path, string? device)
{
    // How often the size was found wrong and not corrected yet; whoever counts the first corrects it.
    private int _wrongSizes;

    /// <summary>The next who needs attributes asks for them.</summary>
    internal void ForgetAttributes() => _ = session.NotifyInvalidateInode(node, -1, 0);

    /// <summary>The kernel believes in a larger file than there is. Returns once it was told, or somebody else does so.</summary>
    internal void CorrectSize(ulong size)
    {
        if (device is null || Interlocked.Increment(ref _wrongSizes) != 1)
        {
            return;
        }

        int seen;
        do
        {
            seen = Volatile.Read(ref _wrongSizes);
            SizeCorrection.Start(path, device, size);
        }
        while (Interlocked.CompareExchange(ref _wrongSizes, 0, seen) != seen);
    }
}
