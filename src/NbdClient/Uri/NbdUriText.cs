using System.Globalization;
using System.Text;
using Linux;

namespace Nbd;

/// <summary>Percent-encoding (RFC 3986, section 2.1).</summary>
internal static class NbdUriText
{
    private static readonly UTF8Encoding s_strictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>Decodes a part of a URI; a '+' stays a '+'.</summary>
    /// <param name="text">The part.</param>
    /// <param name="what">What it is, for messages.</param>
    internal static string Decode(ReadOnlySpan<char> text, string what)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetMaxByteCount(text.Length)];
        int length = 0;
        while (!text.IsEmpty)
        {
            int percent = text.IndexOf('%');
            ReadOnlySpan<char> plain = percent < 0 ? text : text[..percent];
            length += Encoding.UTF8.GetBytes(plain, bytes.AsSpan(length));
            text = text[plain.Length..];
            if (percent >= 0)
            {
                if (text.Length < 3
                    || !byte.TryParse(
                        text.Slice(1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte value))
                {
                    throw new NbdUriFault($"the {what} has a '%' without two hexadecimal digits; '%' itself is %25");
                }

                bytes[length++] = value;
                text = text[3..];
            }
        }

        try
        {
            return s_strictUtf8.GetString(bytes, 0, length);
        }
        catch (DecoderFallbackException)
        {
            throw new NbdUriFault($"the {what} is not UTF-8");
        }
    }
}

/// <summary>Carries the reason from where it was found to <see cref="NbdUriReader.Read"/>.</summary>
internal sealed class NbdUriFault(string message, Errno errno = Errno.EINVAL) : Exception(message)
{
    internal Errno Errno { get; } = errno;
}
