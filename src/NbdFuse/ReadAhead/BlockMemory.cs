using System.Numerics;
using Linux;

namespace NbdFuse;

/// <summary>
/// The memory of all blocks that are read ahead: a fixed number of slots, so that it is bounded whatever happens.
/// Thread-safe, without a lock.
/// </summary>
internal sealed unsafe class BlockMemory
{
    /// <summary>Bytes of a slot: the largest block.</summary>
    internal const int SlotBytes = 1 << 20;

    private const int SlotsInWord = 64;

    // One bit for each slot; each word has a buffer of its own.
    private readonly ulong[] _free;
    private readonly ulong[] _touched;
    private readonly NativeBuffer[] _buffers;

    /// <param name="bytes">Most memory, 1 MiB to 1 GiB. It is address space until it is used.</param>
    internal BlockMemory(long bytes)
    {
        Slots = (int)Math.Clamp(bytes / SlotBytes, 1, 1024);
        int words = (Slots + SlotsInWord - 1) / SlotsInWord;
        _free = new ulong[words];
        _touched = new ulong[words];
        _buffers = new NativeBuffer[words];
        for (int word = 0; word < words; word++)
        {
            int slots = Math.Min(SlotsInWord, Slots - (word * SlotsInWord));
            _free[word] = slots == SlotsInWord ? ulong.MaxValue : (1UL << slots) - 1;
            _buffers[word] = new NativeBuffer(slots * SlotBytes);
        }
    }

    /// <summary>Number of slots.</summary>
    internal int Slots { get; }

    /// <summary>Bytes that take memory, at most.</summary>
    internal long TouchedBytes
    {
        get
        {
            long slots = 0;
            foreach (ref ulong word in _touched.AsSpan())
            {
                slots += BitOperations.PopCount(Volatile.Read(ref word));
            }

            return slots * SlotBytes;
        }
    }

    /// <summary>Takes the lowest free slot: its memory is there already, and more likely in the processor's cache.</summary>
    /// <returns>Its number, or -1 when all are taken.</returns>
    internal int TryTake()
    {
        for (int word = 0; word < _free.Length; word++)
        {
            ulong free = Volatile.Read(ref _free[word]);
            while (free != 0)
            {
                ulong bit = free & (~free + 1);
                ulong seen = Interlocked.CompareExchange(ref _free[word], free & ~bit, free);
                if (seen == free)
                {
                    _ = Interlocked.Or(ref _touched[word], bit);
                    return (word * SlotsInWord) + BitOperations.TrailingZeroCount(bit);
                }

                free = seen;
            }
        }

        return -1;
    }

    /// <summary>First byte of a slot.</summary>
    internal byte* Start(int slot) =>
        _buffers[slot / SlotsInWord].Start + ((nint)(slot % SlotsInWord) * SlotBytes);

    /// <summary>Gives a slot back.</summary>
    internal void Return(int slot) =>
        _ = Interlocked.Or(ref _free[slot / SlotsInWord], 1UL << (slot % SlotsInWord));

    /// <summary>Gives the memory of all free slots back to the system.</summary>
    internal void Decommit()
    {
        for (int slot = 0; slot < Slots; slot++)
        {
            ref ulong free = ref _free[slot / SlotsInWord];
            ref ulong touched = ref _touched[slot / SlotsInWord];
            ulong bit = 1UL << (slot % SlotsInWord);

            // Nobody else uses the slot meanwhile: it is taken.
            if ((Volatile.Read(ref touched) & bit) != 0 && (Interlocked.And(ref free, ~bit) & bit) != 0)
            {
                NativeBuffer.Decommit(Start(slot), SlotBytes);
                _ = Interlocked.And(ref touched, ~bit);
                Return(slot);
            }
        }
    }
}
