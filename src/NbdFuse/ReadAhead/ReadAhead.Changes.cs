namespace NbdFuse;

/// <content>What must not be read from blocks any more.</content>
internal sealed unsafe partial class ReadAhead
{
    /// <summary>A range is going to change: to be called before the first command is sent.</summary>
    /// <param name="change">Stays registered until <see cref="EndChange"/>.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Bytes.</param>
    internal void BeginChange(RangeChange change, ulong offset, ulong length)
    {
        lock (_gate)
        {
            (change.Start, change.End) = (offset, offset + length);
            (change.Older, change.Newer) = (_newestChange, null);
            if (_newestChange is not null)
            {
                _newestChange.Newer = change;
            }

            _newestChange = change;
            for (int i = _liveCount - 1; i >= 0; i--)
            {
                if (_live[i].Overlaps(change.Start, change.End))
                {
                    DropLocked(i);
                }
            }
        }
    }

    /// <summary>All commands of a change have completed, and it is about to be answered.</summary>
    internal void EndChange(RangeChange change)
    {
        lock (_gate)
        {
            if (change.Newer is null)
            {
                _newestChange = change.Older;
            }
            else
            {
                change.Newer.Older = change.Older;
            }

            if (change.Older is not null)
            {
                change.Older.Newer = change.Newer;
            }

            (change.Older, change.Newer) = (null, null);
        }
    }

    /// <summary>
    /// Anything may have changed: drops all blocks. Readers have to show anew that they are streams, so that a loop of
    /// opens and short reads asks for nothing in vain.
    /// </summary>
    internal void Forget()
    {
        lock (_gate)
        {
            while (_liveCount > 0)
            {
                DropLocked(_liveCount - 1);
            }

            _streams.Clear();
        }
    }

    private bool IsChangingLocked(ulong start, ulong end)
    {
        for (RangeChange? change = _newestChange; change is not null; change = change.Older)
        {
            if (change.Start < end && start < change.End)
            {
                return true;
            }
        }

        return false;
    }
}
