using System.Globalization;
using System.Text;

namespace Nbd;

/// <summary>Makes texts fit for the log and for the wire: one line, printable, not too long.</summary>
internal static class PlainText
{
    private const int MaximumLength = 300;

    // At most 3 bytes of UTF-8 for each UTF-16 unit: far below the 4096 bytes of a string on the wire.
    public static string From(string text)
    {
        StringBuilder plain = new(Math.Min(text.Length, MaximumLength) + 3);
        bool isCut = text.Length > MaximumLength;
        foreach (Rune rune in (isCut ? text.AsSpan(0, MaximumLength) : text).EnumerateRunes())
        {
            bool isPrintable = Rune.GetUnicodeCategory(rune) is not (
                UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator
                or UnicodeCategory.ParagraphSeparator or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned);
            plain.Append(isPrintable ? rune.ToString() : "?");
        }

        return isCut ? plain.Append("...").ToString() : plain.ToString();
    }
}
