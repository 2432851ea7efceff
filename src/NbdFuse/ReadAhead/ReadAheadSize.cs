namespace NbdFuse;

/// <summary>The value of --readahead.</summary>
internal static class ReadAheadSize
{
    private const long Smallest = 256 << 10;
    private const long Largest = 512 << 20;

    /// <summary>Reads "off" or a size; null is the default.</summary>
    /// <returns>Bytes; 0 for off.</returns>
    /// <exception cref="UsageException">It is neither, or out of range.</exception>
    internal static long Parse(string? text)
    {
        if (text is null)
        {
            return Invocation.DefaultReadAheadBytes;
        }

        long bytes = text is "off" ? 0 : SizeText.Parse("--readahead, if not off,", text);
        return bytes is 0 or (>= Smallest and <= Largest)
            ? bytes
            : throw new UsageException($"--readahead must be a size from 256K to 512M, or off, not '{text}'");
    }
}
