using System.Globalization;

namespace Tools;

/// <summary>Sizes as people write them: a number and perhaps a letter, each a step of 1024.</summary>
internal static class SizeText
{
    private const string Letters = "KMGTPE";

    /// <summary>The bytes that a text such as "512", "64K", "1G" or "1GiB" means.</summary>
    /// <param name="what">What the size is of, for the message.</param>
    /// <param name="text">The text.</param>
    /// <exception cref="UsageException">It is no size, or more than 2^63-1.</exception>
    internal static long Parse(string what, string text)
    {
        string number = text.EndsWith("iB", StringComparison.Ordinal) && text.Length > 3 ? text[..^2] : text;
        int steps = number.Length > 1 ? Letters.IndexOf(char.ToUpperInvariant(number[^1])) + 1 : 0;
        if (steps > 0)
        {
            number = number[..^1];
        }
        else if (number != text)
        {
            number = text;
        }

        if (!ulong.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out ulong units))
        {
            throw new UsageException($"{what} must be a size such as 512M, 1G or 1T, not '{text}'");
        }

        UInt128 bytes = (UInt128)units << (10 * steps);
        return bytes <= long.MaxValue
            ? (long)bytes
            : throw new UsageException($"{what} is {text}: the largest size is 2^63-1 bytes");
    }
}
