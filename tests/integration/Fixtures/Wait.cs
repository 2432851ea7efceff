using System.Diagnostics;

namespace IntegrationTests.Fixtures;

/// <summary>Waits for conditions. The limits are far above what is needed: they end hangs, they measure nothing.</summary>
internal static class Wait
{
    public static readonly TimeSpan Default = TimeSpan.FromSeconds(20);

    /// <summary>Returns when <paramref name="condition"/> holds; throws when it does not in time.</summary>
    public static void Until(Func<bool> condition, string what, TimeSpan? limit = null)
    {
        if (!Try(condition, limit ?? Default))
        {
            throw new TimeoutException($"not within {(limit ?? Default).TotalSeconds} s: {what}");
        }
    }

    /// <summary>Whether <paramref name="condition"/> came to hold within <paramref name="limit"/>.</summary>
    public static bool Try(Func<bool> condition, TimeSpan limit)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(start) > limit)
            {
                return false;
            }

            Thread.Sleep(5);
        }

        return true;
    }
}
