namespace Fuse;

/// <summary>
/// How many entries the kernel's queues get, and which ring serves which queue. There is one queue for each processor
/// that the machine can ever have, and all of them must be served. The queues of the processors that run are dealt out
/// to the rings in turn, so that each gets its share also when every other processor is off. Immutable.
/// </summary>
internal sealed class UringLayout
{
    // All entries together may take so much memory if all are used for the largest requests at once, up to 32 processors.
    private const long LargestMemoryBytes = 1L << 30;
    private const int LargestDepth = 128;

    // A program of one processor gets no more in flight than its queue has entries, whatever the others do.
    private const int SmallestDepth = 32;

    private readonly int[] _depths;
    private readonly int[] _rings;

    /// <param name="rings">Number of rings, at least 1.</param>
    /// <param name="payloadBytes">Most data of an entry.</param>
    /// <param name="possible">Number of processors that the machine can ever have.</param>
    /// <param name="online">Those that run; the others get a queue of one entry, for when they do.</param>
    internal UringLayout(int rings, int payloadBytes, int possible, IReadOnlyList<int> online)
    {
        Rings = rings;
        Depth = (int)Math.Clamp(
            LargestMemoryBytes / payloadBytes / Math.Max(online.Count, 1), SmallestDepth, LargestDepth);
        _depths = new int[possible];
        Array.Fill(_depths, 1);
        _rings = [.. Enumerable.Range(0, possible).Select(queue => queue % rings)];
        int dealt = 0;
        foreach (int processor in online.Where(processor => processor < possible))
        {
            _depths[processor] = Depth;
            _rings[processor] = dealt++ % rings;
        }
    }

    /// <summary>Number of rings.</summary>
    internal int Rings { get; }

    /// <summary>Number of queues.</summary>
    internal int Queues => _depths.Length;

    /// <summary>Entries of the queue of a processor that runs.</summary>
    internal int Depth { get; }

    /// <summary>
    /// Most background requests. All of them may come from one processor, and the kernel gives out the entries of a queue
    /// first come, first served: so they are fewer than a queue has, whatever the number of processors, and a server that
    /// hangs leaves some for what is answered from memory.
    /// </summary>
    internal int Background => Depth * 3 / 4;

    /// <summary>Entries of all queues.</summary>
    internal int Entries => _depths.Sum();

    /// <summary>Entries of a queue.</summary>
    internal int DepthOf(int queue) => _depths[queue];

    /// <summary>The queues that a ring serves.</summary>
    internal IEnumerable<int> QueuesOf(int ring) =>
        Enumerable.Range(0, _rings.Length).Where(queue => _rings[queue] == ring);
}
