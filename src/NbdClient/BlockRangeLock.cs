namespace Nbd;

/// <summary>
/// Keeps changes of whole blocks apart from those that read a block, edit it and write it back: two of the first kind
/// may overlap, as they may on the wire; the second kind waits for all that came before it on its blocks, and all that
/// come later on them wait for it. First come, first served, so nobody starves. Thread-safe.
/// </summary>
internal sealed class BlockRangeLock
{
    // Guards the list and all of its members. Nothing is called under it; those who waited go on elsewhere.
    private readonly Lock _gate = new();

    // All that are inside or wait, in the order of their arrival.
    private Hold? _oldest;
    private Hold? _newest;

    // How many of them are exclusive: while there is none, a shared one conflicts with nobody.
    private int _exclusive;

    /// <summary>Enters for a change of whole blocks, unless it would have to wait. Never allocates.</summary>
    /// <returns>Whether it is inside; then <see cref="Leave"/> must follow.</returns>
    internal bool TryEnterShared(Hold hold, ulong offset, ulong length)
    {
        lock (_gate)
        {
            hold.Begin(offset, length, isExclusive: false);
            if (_exclusive > 0 && CountConflictsLocked(hold) > 0)
            {
                return false;
            }

            AppendLocked(hold);
            return true;
        }
    }

    /// <summary>Enters; the task ends when it is inside. <see cref="Leave"/> must follow.</summary>
    internal Task EnterAsync(Hold hold, ulong offset, ulong length, bool isExclusive)
    {
        lock (_gate)
        {
            hold.Begin(offset, length, isExclusive);
            hold.Conflicts = isExclusive || _exclusive > 0 ? CountConflictsLocked(hold) : 0;
            AppendLocked(hold);
            if (hold.Conflicts == 0)
            {
                return Task.CompletedTask;
            }

            hold.Entered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            return hold.Entered.Task;
        }
    }

    /// <summary>Leaves, and lets those in who waited for nobody else.</summary>
    internal void Leave(Hold hold)
    {
        lock (_gate)
        {
            if (_exclusive > 0)
            {
                for (Hold? later = hold.Next; later is not null; later = later.Next)
                {
                    if (later.IsInConflictWith(hold) && --later.Conflicts == 0)
                    {
                        later.Entered!.SetResult();
                    }
                }
            }

            RemoveLocked(hold);
        }
    }

    private int CountConflictsLocked(Hold hold)
    {
        int count = 0;
        for (Hold? earlier = _oldest; earlier is not null; earlier = earlier.Next)
        {
            count += earlier.IsInConflictWith(hold) ? 1 : 0;
        }

        return count;
    }

    private void AppendLocked(Hold hold)
    {
        (hold.Previous, hold.Next) = (_newest, null);
        if (_newest is null)
        {
            _oldest = hold;
        }
        else
        {
            _newest.Next = hold;
        }

        _newest = hold;
        _exclusive += hold.IsExclusive ? 1 : 0;
    }

    private void RemoveLocked(Hold hold)
    {
        _exclusive -= hold.IsExclusive ? 1 : 0;
        if (hold.Previous is null)
        {
            _oldest = hold.Next;
        }
        else
        {
            hold.Previous.Next = hold.Next;
        }

        if (hold.Next is null)
        {
            _newest = hold.Previous;
        }
        else
        {
            hold.Next.Previous = hold.Previous;
        }

        (hold.Previous, hold.Next, hold.Entered) = (null, null, null);
    }

    /// <summary>One range, for one stay after the other. Its members belong to the lock.</summary>
    internal sealed class Hold
    {
        private ulong _offset;
        private ulong _end;

        internal bool IsExclusive { get; private set; }

        /// <summary>Earlier ones that it waits for.</summary>
        internal int Conflicts { get; set; }

        internal TaskCompletionSource? Entered { get; set; }

        internal Hold? Previous { get; set; }

        internal Hold? Next { get; set; }

        internal void Begin(ulong offset, ulong length, bool isExclusive) =>
            (_offset, _end, IsExclusive, Conflicts) = (offset, offset + length, isExclusive, 0);

        internal bool IsInConflictWith(Hold other) =>
            (IsExclusive || other.IsExclusive) && _offset < other._end && other._offset < _end;
    }
}
