using System.Buffers.Binary;

namespace IntegrationTests.Fixtures;

/// <summary>Bytes that tests write and expect.</summary>
internal static class Data
{
    /// <summary>Bytes that look random, the same for the same seed.</summary>
    public static byte[] Random(int length, int seed = 1)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    public static byte[] Filled(int length, byte value)
    {
        byte[] bytes = new byte[length];
        Array.Fill(bytes, value);
        return bytes;
    }

    /// <summary>What nbdkit's pattern plugin has at <paramref name="offset"/> (a multiple of 8).</summary>
    public static byte[] Pattern(long offset, int length)
    {
        byte[] bytes = new byte[(length + 7) / 8 * 8];
        for (int i = 0; i < bytes.Length; i += 8)
        {
            BinaryPrimitives.WriteInt64BigEndian(bytes.AsSpan(i), offset + i);
        }

        return bytes[..length];
    }
}
