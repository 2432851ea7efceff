namespace NbdFuse;

/// <summary>
/// Keeps an <see cref="ExtentMap"/> true while the export is being written to and asked about. Thread-safe.
/// </summary>
/// <remarks>
/// Never a hole over data that was acknowledged: a range becomes data when its WRITE has completed, before that is
/// answered. A range that was zeroed becomes unknown. An answer of the server only fills what is unknown, and of that
/// only what did not become unknown since it was asked for.
/// </remarks>
/// <param name="size">Size of the export in bytes, at least 1.</param>
/// <param name="block">The server's minimum block: inquiries are whole blocks.</param>
/// <param name="lifetime">Everything is forgotten so long after the first question: others may change the export.</param>
/// <param name="time">The clock.</param>
/// <param name="capacity">Most runs of the map.</param>
internal sealed class ExtentTracker(
    ulong size, ulong block, TimeSpan lifetime, TimeProvider time, int capacity = ExtentMap.UsualCapacity)
{
    private const int RunsPerLock = 256;

    // Guards all fields. Nothing is called under it but the map and the inquiries.
    private readonly Lock _gate = new();
    private readonly List<ExtentInquiry> _inquiries = [];

    // Null until somebody asks, and again when nobody did for a lifetime: then writes cost nothing.
    private ExtentMap? _map;
    private long _born;
    private bool _hasForgotten;

    /// <summary>Whether it has room for all that was learnt so far.</summary>
    internal bool HasRoom
    {
        get
        {
            lock (_gate)
            {
                return !_hasForgotten;
            }
        }
    }

    /// <summary>All commands that changed a range have completed, however, and that is about to be answered.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="kind">Data when it was written to, unknown when it was zeroed.</param>
    internal void Changed(ulong start, ulong length, ExtentKind kind)
    {
        if (Volatile.Read(ref _map) is not null)
        {
            Change(start, length, kind);
        }
    }

    /// <summary>Anything may have changed.</summary>
    internal void Forget()
    {
        lock (_gate)
        {
            ForgetLocked();
        }
    }

    /// <summary>What is known of a byte and its neighbours.</summary>
    internal ExtentRun Find(ulong position)
    {
        lock (_gate)
        {
            return LiveMapLocked()?.Find(position) ?? new ExtentRun(0, size, ExtentKind.Unknown);
        }
    }

    /// <summary>Bytes of known holes in a range.</summary>
    /// <param name="start">First byte.</param>
    /// <param name="end">The byte after the last.</param>
    /// <param name="isWhole">Whether all of the export is known.</param>
    internal ulong HoleBytes(ulong start, ulong end, out bool isWhole)
    {
        lock (_gate)
        {
            ExtentMap? map = LiveMapLocked();
            isWhole = map?.UnknownBytes == 0;
            return map?.HoleBytesIn(start, end) ?? 0;
        }
    }

    /// <summary>
    /// A question about a byte: one that is in flight, or a new one, from the byte on, which the caller has to send.
    /// </summary>
    /// <param name="position">The byte.</param>
    /// <param name="longest">Most bytes of a new one, whole blocks.</param>
    /// <param name="isNew">Whether it is new.</param>
    /// <returns>Null if it is known by now.</returns>
    internal ExtentInquiry? Ask(ulong position, ulong longest, out bool isNew)
    {
        lock (_gate)
        {
            isNew = false;
            ExtentMap map = MapLocked();
            ExtentRun run = map.Find(position);
            if (run.Kind != ExtentKind.Unknown)
            {
                return null;
            }

            ExtentInquiry? covering = CoveringLocked(position);
            isNew = covering is null;
            return covering ?? BeginLocked(position, run.End, longest);
        }
    }

    /// <summary>
    /// A new question about the first range that is unknown and not being asked for, which the caller has to send.
    /// </summary>
    /// <param name="longest">Most bytes of it, whole blocks.</param>
    /// <returns>Null if there is no such range.</returns>
    internal ExtentInquiry? AskNext(ulong longest)
    {
        lock (_gate)
        {
            ExtentMap map = MapLocked();
            ulong from = 0;
            while (map.FindUnknown(from) is { Length: > 0 } run)
            {
                from = Math.Max(from, run.Start);
                if (CoveringLocked(from) is not ExtentInquiry covering)
                {
                    return BeginLocked(from, run.End, longest);
                }

                from = covering.End;
            }

            return null;
        }
    }

    /// <summary>Notes the answer to a question, and ends it.</summary>
    /// <param name="inquiry">The question.</param>
    /// <param name="told">What the server said, in order; empty if it did not answer.</param>
    internal void End(ExtentInquiry inquiry, List<ExtentRun> told)
    {
        // In parts, so that no write waits for a long answer.
        for (int i = 0; i < told.Count; i += RunsPerLock)
        {
            lock (_gate)
            {
                for (int j = i; j < Math.Min(told.Count, i + RunsPerLock) && !inquiry.IsVoid; j++)
                {
                    FillLocked(inquiry, told[j]);
                }
            }
        }

        lock (_gate)
        {
            _ = _inquiries.Remove(inquiry);
        }

        inquiry.Complete();
    }

    private void Change(ulong start, ulong length, ExtentKind kind)
    {
        ulong end = length > size - Math.Min(start, size) ? size : start + length;
        lock (_gate)
        {
            ExtentMap? map = LiveMapLocked();
            if (map is null)
            {
                return;
            }

            SetLocked(map, start, end, kind);
            if (kind == ExtentKind.Unknown)
            {
                DisturbLocked(start, end);
            }
        }
    }

    private void FillLocked(ExtentInquiry inquiry, ExtentRun told)
    {
        ExtentMap map = _map!;
        ulong at = told.Start;
        while (at < told.End)
        {
            ExtentRun run = map.Find(at);
            ulong end = Math.Min(run.End, told.End);
            if (run.Kind == ExtentKind.Unknown)
            {
                ulong part = inquiry.NextBelievable(ref at, end);
                if (at < part)
                {
                    SetLocked(map, at, part, told.Kind);
                }

                at = part;
            }
            else
            {
                at = end;
            }
        }
    }

    private void SetLocked(ExtentMap map, ulong start, ulong end, ExtentKind kind)
    {
        ExtentRun forgotten = map.Set(start, end, kind);
        if (forgotten.Length > 0)
        {
            // Data may be among it that an answer on its way does not know of.
            _hasForgotten = true;
            DisturbLocked(forgotten.Start, forgotten.End);
        }
    }

    private void DisturbLocked(ulong start, ulong end)
    {
        foreach (ExtentInquiry inquiry in _inquiries)
        {
            inquiry.Disturb(start, end);
        }
    }

    private ExtentInquiry? CoveringLocked(ulong position)
    {
        foreach (ExtentInquiry inquiry in _inquiries)
        {
            if (inquiry.Covers(position) && !inquiry.IsVoid)
            {
                return inquiry;
            }
        }

        return null;
    }

    private ExtentInquiry BeginLocked(ulong position, ulong end, ulong longest)
    {
        ulong start = position & ~(block - 1);
        end = Math.Min(size, (end + block - 1) & ~(block - 1));
        end = Math.Min(end, start + longest);
        foreach (ExtentInquiry other in _inquiries)
        {
            if (other.Start > position && other.Start < end && !other.IsVoid)
            {
                end = other.Start;
            }
        }

        ExtentInquiry inquiry = new(start, end);
        _inquiries.Add(inquiry);
        return inquiry;
    }

    /// <summary>The map, made if there is none.</summary>
    private ExtentMap MapLocked()
    {
        if (LiveMapLocked() is ExtentMap live)
        {
            return live;
        }

        _born = time.GetTimestamp();
        ExtentMap map = new(size, capacity);
        Volatile.Write(ref _map, map);
        return map;
    }

    /// <summary>The map, unless there is none or it is too old.</summary>
    private ExtentMap? LiveMapLocked()
    {
        if (_map is not null && lifetime != Timeout.InfiniteTimeSpan && time.GetElapsedTime(_born) > lifetime)
        {
            ForgetLocked();
        }

        return _map;
    }

    private void ForgetLocked()
    {
        Volatile.Write(ref _map, null);
        _hasForgotten = false;
        foreach (ExtentInquiry inquiry in _inquiries)
        {
            inquiry.IsVoid = true;
        }
    }
}
