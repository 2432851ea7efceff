namespace NbdFuse;

/// <summary>The permission bits of a mode.</summary>
internal static class Permissions
{
    /// <summary>Read, write and execute of owner, group and others: all that a disk image can use.</summary>
    internal const uint Mask = 0x1ff;

    /// <summary>Reads an octal number from 0 to 777; null if it is none.</summary>
    internal static uint? TryParse(string text)
    {
        uint mode = 0;
        foreach (char digit in text)
        {
            if (digit is < '0' or > '7' || (mode = (mode * 8) + (uint)(digit - '0')) > Mask)
            {
                return null;
            }
        }

        return text.Length > 0 ? mode : null;
    }
}
