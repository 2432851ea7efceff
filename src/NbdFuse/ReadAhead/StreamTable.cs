namespace NbdFuse;

/// <summary>
/// Finds the streams among the READs of a file. A random READ costs a look at a few numbers, and cannot displace a
/// stream. Guarded by the lock of its <see cref="ReadAhead"/>.
/// </summary>
internal sealed class StreamTable
{
    private const int MaximumStreams = 16;

    // The last places that were read and belong to no stream: so many random READs may come between two of a reader.
    private const int Candidates = 32;

    // READs that must follow the first one.
    private const int NeededFollowers = 2;

    private readonly long _lifetime;
    private readonly Candidate[] _candidates = new Candidate[Candidates];

    // Where a READ may start that follows a candidate.
    private readonly ulong[] _starts = new ulong[Candidates];
    private readonly ulong[] _spans = new ulong[Candidates];
    private readonly ReadAheadStream[] _streams = new ReadAheadStream[MaximumStreams];
    private int _turn;

    /// <param name="lifetime">
    /// How long a block may be kept: whoever reads more seldom has nothing of them, and is no stream.
    /// </param>
    internal StreamTable(long lifetime)
    {
        _lifetime = lifetime;
        for (int i = 0; i < MaximumStreams; i++)
        {
            _streams[i] = new ReadAheadStream();
        }

        ForgetCandidates();
    }

    /// <summary>Streams that there are: the first of <see cref="_streams"/>.</summary>
    internal int Count { get; private set; }

    internal ReadOnlySpan<ReadAheadStream> Streams => _streams.AsSpan(0, Count);

    /// <summary>The stream that a READ belongs to, if any; a new one when READs have followed each other.</summary>
    internal ReadAheadStream? Find(ulong offset, uint length, long now)
    {
        foreach (ReadAheadStream stream in Streams)
        {
            if (stream.Matches(offset, length))
            {
                stream.Advance(offset + length, length, now);
                return stream;
            }
        }

        return FindCandidate(offset, length, now) ? TryBegin(offset + length, length, now) : null;
    }

    /// <summary>Ends one of the streams that were not read for so long that their blocks are too old.</summary>
    /// <returns>Null when there is none.</returns>
    internal ReadAheadStream? EndIdle(long now)
    {
        for (int i = 0; i < Count; i++)
        {
            ReadAheadStream stream = _streams[i];
            if (now - stream.LastRead > _lifetime)
            {
                Count--;
                (_streams[i], _streams[Count]) = (_streams[Count], stream);
                return stream;
            }
        }

        return null;
    }

    /// <summary>Ends all streams; readers must show themselves anew.</summary>
    internal void Clear()
    {
        Count = 0;
        ForgetCandidates();
    }

    private bool FindCandidate(ulong offset, uint length, long now)
    {
        // The whole cost of a random READ: one comparison each.
        ulong[] starts = _starts;
        ulong[] spans = _spans;
        for (int i = 0; i < starts.Length && i < spans.Length; i++)
        {
            if (offset - starts[i] <= spans[i])
            {
                return Follows(i, offset + length, length, now);
            }
        }

        _turn = (_turn + 1) % Candidates;
        SetCandidate(_turn, new Candidate(offset + length, 0, now), length);
        return false;
    }

    private bool Follows(int index, ulong end, uint length, long now)
    {
        Candidate candidate = _candidates[index];

        // One that was swapped with its successor counts for nothing.
        int followers = now - candidate.LastRead > _lifetime ? 0
            : candidate.Followers + (end > candidate.Next ? 1 : 0);
        if (followers < NeededFollowers)
        {
            SetCandidate(index, new Candidate(Math.Max(candidate.Next, end), followers, now), length);
            return false;
        }

        ForgetCandidate(index);
        return true;
    }

    private void SetCandidate(int index, Candidate candidate, uint length)
    {
        ulong reach = 2 * (ulong)length;
        ulong before = Math.Min(reach, candidate.Next);
        _candidates[index] = candidate;
        _starts[index] = candidate.Next - before;
        _spans[index] = before + reach;
    }

    private ReadAheadStream? TryBegin(ulong next, uint length, long now)
    {
        if (Count == MaximumStreams)
        {
            return null;
        }

        ReadAheadStream stream = _streams[Count++];
        stream.Begin(next, length, now);
        return stream;
    }

    private void ForgetCandidate(int index) => (_starts[index], _spans[index]) = (ulong.MaxValue, 0);

    private void ForgetCandidates()
    {
        for (int i = 0; i < Candidates; i++)
        {
            ForgetCandidate(i);
        }
    }

    private readonly record struct Candidate(ulong Next, int Followers, long LastRead);
}
