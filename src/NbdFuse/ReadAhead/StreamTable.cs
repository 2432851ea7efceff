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
        ulong end = offset + length;
        Candidate[] candidates = _candidates;
        for (int i = 0; i < candidates.Length; i++)
        {
            ref Candidate candidate = ref candidates[i];
            ulong reach = 2 * (ulong)Math.Max(length, candidate.Length);
            if (offset + reach >= candidate.Next && offset <= candidate.Next + reach)
            {
                // One that was swapped with its successor counts for nothing.
                int followers = now - candidate.LastRead > _lifetime ? 0
                    : candidate.Followers + (end > candidate.Next ? 1 : 0);
                candidate = followers >= NeededFollowers
                    ? Candidate.None
                    : new Candidate(Math.Max(candidate.Next, end), length, followers, now);
                return followers >= NeededFollowers;
            }
        }

        _turn = (_turn + 1) % Candidates;
        candidates[_turn] = new Candidate(end, length, 0, now);
        return false;
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

    private void ForgetCandidates() => Array.Fill(_candidates, Candidate.None);

    private readonly record struct Candidate(ulong Next, uint Length, int Followers, long LastRead)
    {
        internal static readonly Candidate None = new(ulong.MaxValue, 0, 0, 0);
    }
}
