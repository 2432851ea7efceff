using Linux;

namespace Nbd;

/// <summary>
/// An NBD connection or command failed. <see cref="Exception.Message"/> says what was tried, on what, what came
/// back and, where there is something, what to do about it.
/// </summary>
public class NbdException : IOException
{
    /// <summary>Makes an exception.</summary>
    /// <param name="message">The whole text; texts of the server in it were made printable.</param>
    /// <param name="errno">The error number that fits best.</param>
    /// <param name="innerException">What caused it, if that says more.</param>
    public NbdException(string message, Errno errno, Exception? innerException = null)
        : base(message, innerException)
    {
        Errno = errno;
    }

    /// <summary>The error number that fits best; never <see cref="Errno.None"/>.</summary>
    public Errno Errno { get; }

    /// <summary>
    /// The server does not do this without TLS: connect with another <see cref="NbdTlsOptions.Policy"/> or an nbds URI.
    /// </summary>
    public bool RequiresTls { get; init; }

    /// <summary>
    /// A further connection failed where the first one did not: set <see cref="NbdClientOptions.Connections"/> to 1.
    /// </summary>
    public bool SuggestsOneConnection { get; init; }
}
