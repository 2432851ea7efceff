using System.Buffers.Binary;
using NbdServe.Backends;

namespace UnitTests.NbdServeTests;

public sealed class PatternBackendTests
{
    [Theory]
    [InlineData(0, 8)]
    [InlineData(3, 2)]
    [InlineData(5, 100)]
    [InlineData(16, 4099)]
    [InlineData((1L << 62) + 7, 33)]
    public void Each_word_is_its_offset(long offset, int length)
    {
        byte[] data = new PatternBackend(long.MaxValue).Read(offset, length);

        for (int i = 0; i < length; i++)
        {
            byte[] word = new byte[8];
            BinaryPrimitives.WriteInt64BigEndian(word, (offset + i) / 8 * 8);
            Assert.Equal(word[(offset + i) % 8], data[i]);
        }
    }
}
