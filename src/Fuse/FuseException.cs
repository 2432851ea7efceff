namespace Fuse;

/// <summary>
/// A mount or a session could not be set up for a reason that is not one system call's error number.
/// <see cref="Exception.Message"/> says what was tried, what came back and what to do.
/// </summary>
public sealed class FuseException : IOException
{
    /// <summary>Makes an exception.</summary>
    public FuseException(string message)
        : base(message)
    {
    }

    /// <summary>Makes an exception with the one that caused it.</summary>
    public FuseException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
