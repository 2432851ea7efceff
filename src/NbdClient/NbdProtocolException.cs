using Linux;

namespace Nbd;

/// <summary>
/// The server broke the NBD protocol, so nothing more can be said to it on this connection.
/// <see cref="NbdException.Errno"/> is EPROTO.
/// </summary>
public sealed class NbdProtocolException : NbdException
{
    /// <summary>Makes an exception.</summary>
    /// <param name="message">Who sent what, and what was expected.</param>
    public NbdProtocolException(string message)
        : base(message, Errno.EPROTO)
    {
    }
}
