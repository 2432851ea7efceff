using Linux;

namespace Nbd;

/// <summary>A file of pre-shared keys: lines of the form <c>user:key</c>, the key in hexadecimal digits.</summary>
internal static class TlsKeyFile
{
    /// <summary>The key of a user.</summary>
    /// <exception cref="NbdException">
    /// The file cannot be read (ENOENT, EACCES), has no such user (ENOENT), or not a key (EINVAL). The message has no
    /// part of a key.
    /// </exception>
    internal static byte[] Find(string path, string user)
    {
        string shown = PrintableText.From(path);
        string shownUser = PrintableText.From(user);
        string? text = null;
        try
        {
            foreach (string line in File.ReadLines(path))
            {
                if (line.Length > user.Length && line[user.Length] == ':' && line.StartsWith(user, StringComparison.Ordinal))
                {
                    text = line[(user.Length + 1)..].Trim();
                    break;
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new NbdException(
                $"TLS: the file of pre-shared keys {shown} cannot be read: {PrintableText.From(e.Message)}",
                e is UnauthorizedAccessException ? Errno.EACCES : Errno.ENOENT,
                e);
        }

        if (text is null)
        {
            throw new NbdException(
                $"TLS: {shown} has no pre-shared key of the user '{shownUser}': add a line '{shownUser}:KEY' with the server's key "
                + "of that user, or name another user (tls-username)",
                Errno.ENOENT);
        }

        try
        {
            byte[] key = Convert.FromHexString(text);
            if (key.Length is > 0 and <= TlsContext.MaximumKeyBytes)
            {
                return key;
            }
        }
        catch (FormatException)
        {
            // Said below: the exception's text may hold a part of the key.
        }

        throw new NbdException(
            $"TLS: the pre-shared key of the user '{shownUser}' in {shown} must be 1 to {TlsContext.MaximumKeyBytes} bytes "
            + "in hexadecimal digits",
            Errno.EINVAL);
    }
}
