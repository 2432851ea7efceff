namespace UnitTests;

/// <summary>What a thread allocates for what it does often.</summary>
internal static class Allocations
{
    private const int Rounds = 10;

    /// <summary>
    /// The fewest bytes that <paramref name="run"/> adds to <paramref name="allocated"/>. What is allocated for each command
    /// is so in all rounds; a lock's first contention, or the compiler's work on what is used a lot, in one or another.
    /// </summary>
    internal static long Fewest(Func<long> allocated, Action run)
    {
        long fewest = long.MaxValue;
        for (int round = 0; round < Rounds && fewest != 0; round++)
        {
            long before = allocated();
            run();
            fewest = Math.Min(fewest, allocated() - before);
        }

        return fewest;
    }
}
