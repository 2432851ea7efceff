using System.Runtime.InteropServices;

namespace Linux;

/// <summary>
/// A system call failed. <see cref="Exception.Message"/> says what was tried, on what, and what came back.
/// </summary>
public sealed class LinuxException : IOException
{
    /// <summary>Makes an exception whose message is "<paramref name="what"/>: text of the error".</summary>
    /// <param name="what">What was tried, and on what.</param>
    /// <param name="errno">What came back.</param>
    public LinuxException(string what, Errno errno)
        : base($"{what}: {Describe(errno)}")
    {
        Errno = errno;
    }

    /// <summary>The error number that came back.</summary>
    public Errno Errno { get; }

    /// <summary>The system's text for an error number, as strerror(3) has it.</summary>
    public static string Describe(Errno errno) => Marshal.GetPInvokeErrorMessage((int)errno);

    /// <summary>The error of the last system call on this thread. Call it before anything else can change it.</summary>
    public static Errno LastErrno => (Errno)Marshal.GetLastPInvokeError();

    /// <summary>An exception for the last system call on this thread.</summary>
    public static LinuxException FromLastError(string what) => new(what, LastErrno);
}
