namespace Linux;

/// <summary>
/// Which processors a thread may run on. A thread inherits that from the one that starts it, so threads that a
/// narrowed thread starts, those of the thread pool too, have to call <see cref="Release"/>.
/// </summary>
public static unsafe class ThreadProcessors
{
    // The most that Linux can be built for are 8192.
    private const int MaskBytes = 1024;

    // Where threads may run that were not narrowed; null until one was.
    private static byte[]? s_all;

    [ThreadStatic]
    private static bool t_isReleased;

    /// <summary>
    /// Has the calling thread run on some processors alone: those of <paramref name="processors"/> that it may use now.
    /// When there is none of them it stays as it is. The kernel lifts the limit when the last of them goes offline, or
    /// out of the process's cpuset.
    /// </summary>
    /// <returns>Whether it is narrowed.</returns>
    public static bool TryNarrow(IEnumerable<int> processors)
    {
        ArgumentNullException.ThrowIfNull(processors);
        byte[] all = new byte[MaskBytes];
        byte[] some = new byte[MaskBytes];
        fixed (byte* mask = all)
        {
            if (Interop.sched_getaffinity(0, MaskBytes, mask) != 0)
            {
                return false;
            }
        }

        foreach (int processor in processors)
        {
            if (processor is >= 0 and < MaskBytes * 8)
            {
                some[processor / 8] |= (byte)(all[processor / 8] & (1 << (processor % 8)));
            }
        }

        _ = Interlocked.CompareExchange(ref s_all, all, null);
        return some.AsSpan().ContainsAnyExcept((byte)0) && TrySet(some);
    }

    /// <summary>
    /// Has the calling thread run wherever the process may, if it was started by a narrowed thread. Cheap after the
    /// first call of a thread.
    /// </summary>
    public static void Release()
    {
        if (!t_isReleased && Volatile.Read(ref s_all) is byte[] all)
        {
            t_isReleased = TrySet(all);
        }
    }

    private static bool TrySet(byte[] processors)
    {
        fixed (byte* mask = processors)
        {
            return Interop.sched_setaffinity(0, MaskBytes, mask) == 0;
        }
    }
}
