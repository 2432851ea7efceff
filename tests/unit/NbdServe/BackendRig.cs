using Nbd;

namespace UnitTests.NbdServeTests;

/// <summary>Calls a backend as a server does, for tests that want plain results.</summary>
internal static class BackendRig
{
    internal static byte[] Read(this NbdBackend backend, long offset, int length)
    {
        byte[] data = new byte[length];
        Array.Fill(data, (byte)0xcc);
        backend.ReadAsync(offset, data, CancellationToken.None).AsTask().GetAwaiter().GetResult();
        return data;
    }

    internal static void Write(this NbdBackend backend, long offset, byte[] data, bool isDurable = false) =>
        backend.WriteAsync(offset, data, isDurable, CancellationToken.None).AsTask().GetAwaiter().GetResult();

    internal static void Zero(
        this NbdBackend backend, long offset, long length, NbdZeroOptions options = NbdZeroOptions.None) =>
        backend.WriteZeroesAsync(offset, length, options, CancellationToken.None).AsTask().GetAwaiter().GetResult();

    internal static void Trim(this NbdBackend backend, long offset, long length) =>
        backend.TrimAsync(offset, length, false, CancellationToken.None).AsTask().GetAwaiter().GetResult();

    /// <summary>
    /// Extents as "length:h" for a hole, "length:z" for zeroes that are allocated and "length:d" for data, separated by
    /// spaces.
    /// </summary>
    internal static string Extents(this NbdBackend backend, long offset, long length)
    {
        NbdExtentList list = new();
        list.Begin(length, 1000);
        backend.ExtentsAsync(offset, length, list, CancellationToken.None).AsTask().GetAwaiter().GetResult();
        return string.Join(
            ' ', Enumerable.Range(0, list.Count).Select(i => list[i])
                .Select(e => $"{e.Length}:{Letter(e.Flags)}"));

        static string Letter(NbdExtentFlags flags) => flags switch
        {
            NbdExtentFlags.Data => "d",
            NbdExtentFlags.Zero => "z",
            NbdExtentFlags.Zero | NbdExtentFlags.Hole => "h",
            _ => "?",
        };
    }

    /// <summary>That what this thread does allocates nothing once it was done.</summary>
    internal static void AssertAllocatesNothing(Action exercise)
    {
        exercise();
        Assert.Equal(0, Allocations.Fewest(GC.GetAllocatedBytesForCurrentThread, () =>
        {
            for (int i = 0; i < 1000; i++)
            {
                exercise();
            }
        }));
    }

    internal static byte[] Random(int length, int seed = 1)
    {
        byte[] data = new byte[length];
        new Random(seed).NextBytes(data);
        return data;
    }
}
