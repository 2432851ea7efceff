namespace NbdFuse;

/// <summary>
/// The memory of all copies of this process: a fixed number of slots. A copy takes what it finds and never waits for
/// more, so that copies to a server that hangs hold up no others.
/// </summary>
internal static class CopyMemory
{
    private const int Slots = 16;
    private const int SlotsOfOne = 4;

    private static readonly BlockMemory s_memory = new(Slots * (long)BlockMemory.SlotBytes);

    /// <summary>Takes some slots.</summary>
    /// <returns>Their numbers; none when all are taken.</returns>
    internal static Stack<int> Take()
    {
        Stack<int> slots = new(SlotsOfOne);
        while (slots.Count < SlotsOfOne && s_memory.TryTake() is int slot and >= 0)
        {
            slots.Push(slot);
        }

        return slots;
    }

    /// <summary>Where a slot is.</summary>
    internal static unsafe nint Address(int slot) => (nint)s_memory.Start(slot);

    /// <summary>Gives slots back, and their memory to the system.</summary>
    internal static void Return(Stack<int> slots)
    {
        foreach (int slot in slots)
        {
            s_memory.Return(slot);
        }

        s_memory.Decommit();
    }
}
