using System.Text;

namespace Nbd;

/// <summary>Makes texts of a server, a command line or a URI fit for a terminal and a one-line message.</summary>
internal static class PrintableText
{
    /// <summary>The longest text shown, in characters.</summary>
    public const int MaximumLength = 300;

    /// <summary>Decodes UTF-8 and replaces all that is not printable; cuts long texts.</summary>
    public static string From(ReadOnlySpan<byte> utf8)
    {
        // A character takes at most 4 bytes, so this much input always fills the limit.
        int limit = 4 * (MaximumLength + 1);
        return From(Encoding.UTF8.GetString(utf8.Length > limit ? utf8[..limit] : utf8));
    }

    /// <summary>Replaces all that is not printable; cuts long texts.</summary>
    public static string From(string text)
    {
        bool cut = text.Length > MaximumLength;
        StringBuilder printable = new(Math.Min(text.Length, MaximumLength) + 3);
        foreach (Rune rune in (cut ? text.AsSpan(0, MaximumLength) : text).EnumerateRunes())
        {
            printable.Append(IsPrintable(rune) ? rune.ToString() : "?");
        }

        return cut ? printable.Append("...").ToString() : printable.ToString();
    }

    // Control covers 0x00-0x1f, 0x7f and the C1 set; Format the characters that reorder or hide others.
    private static bool IsPrintable(Rune rune) => Rune.GetUnicodeCategory(rune) is not (
        System.Globalization.UnicodeCategory.Control
        or System.Globalization.UnicodeCategory.Format
        or System.Globalization.UnicodeCategory.LineSeparator
        or System.Globalization.UnicodeCategory.ParagraphSeparator
        or System.Globalization.UnicodeCategory.PrivateUse
        or System.Globalization.UnicodeCategory.OtherNotAssigned);
}
