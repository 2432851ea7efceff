namespace Nbd;

/// <summary>
/// The slots of one connection. <see cref="Take"/> and <see cref="TakeBack"/> run under the connection's send lock;
/// <see cref="Find"/> and <see cref="Free"/> on its receive thread. The two sides meet only in <see cref="_freed"/>, a list
/// that the receiver pushes to and the sender takes whole: so neither waits for the other and no slot can be seen twice.
/// </summary>
internal sealed class CommandSlotTable
{
    /// <summary>More commands than this in flight on one connection are refused.</summary>
    internal const int MaximumSlots = 16384;

    private const int InitialSlots = 64;

    // Replaced, never changed in place, when it grows: the receive thread reads it without a lock.
    private CommandSlot[] _slots = [];

    // Head of the sender's own free list.
    private int _free = -1;

    // Head of the list that the receive thread gives slots back to.
    private int _freed = -1;

    // The first of each pair is written under the send lock, the second by the receive thread alone.
    private long _taken;
    private long _given;
    private long _changesSent;
    private long _changesEnded;

    /// <summary>Commands in flight.</summary>
    internal int InFlight => (int)(Volatile.Read(ref _taken) - Volatile.Read(ref _given));

    /// <summary>
    /// Of those, the ones that may change data: none is missing that was sent before the call, if none is sent during it.
    /// </summary>
    internal int ChangesInFlight => (int)(Volatile.Read(ref _changesSent) - Volatile.Read(ref _changesEnded));

    /// <summary>All slots there are. Only the receive thread may look at their contents.</summary>
    internal ReadOnlySpan<CommandSlot> All => Volatile.Read(ref _slots);

    /// <summary>A free slot, or null when <see cref="MaximumSlots"/> are in flight. Under the send lock.</summary>
    internal CommandSlot? Take()
    {
        if (_free < 0)
        {
            _free = Interlocked.Exchange(ref _freed, -1);
            if (_free < 0 && !Grow())
            {
                return null;
            }
        }

        CommandSlot slot = _slots[_free];
        _free = slot.NextFree;
        Volatile.Write(ref _taken, _taken + 1);
        return slot;
    }

    /// <summary>The command in flight that has this cookie, or null.</summary>
    internal CommandSlot? Find(ulong cookie)
    {
        CommandSlot[] slots = Volatile.Read(ref _slots);
        uint index = (uint)cookie;
        if (index >= (uint)slots.Length)
        {
            return null;
        }

        CommandSlot slot = slots[index];
        return slot.State != SlotState.Free && slot.Cookie == cookie ? slot : null;
    }

    /// <summary>The command of a slot is about to be sent. Under the send lock.</summary>
    internal void NoteSent(CommandSlot slot)
    {
        if (slot.IsChange)
        {
            Volatile.Write(ref _changesSent, _changesSent + 1);
        }
    }

    /// <summary>Clears a slot whose command the sender completes. Under the send lock.</summary>
    internal void TakeBack(CommandSlot slot)
    {
        if (slot.IsChange)
        {
            Volatile.Write(ref _changesSent, _changesSent - 1);
        }

        slot.Clear();
        Volatile.Write(ref _taken, _taken - 1);
        slot.NextFree = _free;
        _free = slot.Index;
    }

    /// <summary>Clears a slot and gives it back.</summary>
    internal void Free(CommandSlot slot)
    {
        if (slot.IsChange)
        {
            Volatile.Write(ref _changesEnded, _changesEnded + 1);
        }

        slot.Clear();
        Volatile.Write(ref _given, _given + 1);
        int head;
        do
        {
            head = Volatile.Read(ref _freed);
            slot.NextFree = head;
        }
        while (Interlocked.CompareExchange(ref _freed, slot.Index, head) != head);
    }

    private bool Grow()
    {
        int oldLength = _slots.Length;
        int newLength = Math.Min(MaximumSlots, Math.Max(InitialSlots, oldLength * 2));
        if (newLength == oldLength)
        {
            return false;
        }

        CommandSlot[] slots = new CommandSlot[newLength];
        _slots.CopyTo(slots, 0);
        for (int i = oldLength; i < newLength; i++)
        {
            slots[i] = new CommandSlot(i) { NextFree = i + 1 < newLength ? i + 1 : -1 };
        }

        _free = oldLength;
        Volatile.Write(ref _slots, slots);
        return true;
    }
}
