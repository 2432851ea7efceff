using System.Numerics;
using System.Runtime.InteropServices;

namespace NbdServe.Backends;

/// <summary>
/// Finds the page of an index in a sparse disk of any size: a tree of nodes with 4096 entries, as deep as the size
/// needs (two levels up to 1 TiB). Nodes are made when a page below them is first wanted, and stay. Thread-safe:
/// nodes are published with a compare-exchange; an entry of a page belongs to whoever holds the page's lock.
/// </summary>
internal sealed unsafe class PageTable : IDisposable
{
    private const int NodeBits = 12;
    private const int NodeEntries = 1 << NodeBits;

    private readonly int _levels;
    private readonly nint* _root;

    internal PageTable(long pages)
    {
        int bits = 64 - BitOperations.LeadingZeroCount((ulong)Math.Max(0, pages - 1));
        _levels = Math.Max(1, (bits + NodeBits - 1) / NodeBits);
        _root = NewNode();
    }

    /// <summary>The entry of a page, or null when neither it nor its node exists.</summary>
    internal nint* Find(long index)
    {
        nint* node = _root;
        for (int level = _levels - 1; level > 0 && node is not null; level--)
        {
            node = (nint*)Volatile.Read(ref node[Slot(index, level)]);
        }

        return node is null ? null : &node[Slot(index, 0)];
    }

    /// <summary>The entry of a page, whose nodes are made as needed.</summary>
    internal nint* FindOrAdd(long index)
    {
        nint* node = _root;
        for (int level = _levels - 1; level > 0; level--)
        {
            ref nint entry = ref node[Slot(index, level)];
            nint next = Volatile.Read(ref entry);
            node = (nint*)(next != 0 ? next : Publish(ref entry));
        }

        return &node[Slot(index, 0)];
    }

    /// <summary>
    /// The first index from <paramref name="index"/> on, at most <paramref name="end"/>, whose page may be there.
    /// Skips what has no node at once, so that a hole of any size is a few steps.
    /// </summary>
    internal long NextPage(long index, long end)
    {
        while (index < end)
        {
            nint* node = _root;
            int level = _levels - 1;
            nint entry = Volatile.Read(ref node[Slot(index, level)]);
            while (level > 0 && entry != 0)
            {
                node = (nint*)entry;
                level--;
                entry = Volatile.Read(ref node[Slot(index, level)]);
            }

            if (entry != 0)
            {
                return index;
            }

            int shift = level * NodeBits;
            index = ((index >> shift) + 1) << shift;
        }

        return end;
    }

    public void Dispose() => Free(_root, _levels - 1);

    private static void Free(nint* node, int level)
    {
        for (int slot = 0; level > 0 && slot < NodeEntries; slot++)
        {
            if (node[slot] != 0)
            {
                Free((nint*)node[slot], level - 1);
            }
        }

        NativeMemory.Free(node);
    }

    private static nint Publish(ref nint entry)
    {
        nint* made = NewNode();
        nint existing = Interlocked.CompareExchange(ref entry, (nint)made, 0);
        if (existing == 0)
        {
            return (nint)made;
        }

        NativeMemory.Free(made);
        return existing;
    }

    private static nint* NewNode() => (nint*)NativeMemory.AllocZeroed(NodeEntries, (nuint)sizeof(nint));

    private static int Slot(long index, int level) => (int)(index >> (level * NodeBits)) & (NodeEntries - 1);
}
