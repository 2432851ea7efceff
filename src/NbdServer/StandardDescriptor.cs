using Linux;
using Tmds.Linux;

namespace Nbd;

/// <summary>Descriptors 0 to 2 can be served on, but not closed: the next file would get their number.</summary>
internal static unsafe class StandardDescriptor
{
    private const int Last = 2;

    /// <summary>
    /// Moves a standard descriptor to another number, and puts /dev/null in its place, so that whoever prints does not
    /// print into the conversation. Others stay as they are.
    /// </summary>
    /// <exception cref="LinuxException">There are too many open files (EMFILE).</exception>
    public static SafeFd MoveAway(SafeFd descriptor)
    {
        if (descriptor.IsInvalid || descriptor.Fd > Last)
        {
            return descriptor;
        }

        SafeFd moved = new(LibC.fcntl(descriptor.Fd, LibC.F_DUPFD_CLOEXEC, Last + 1));
        int nothing;
        fixed (byte* path = "/dev/null\0"u8)
        {
            nothing = LibC.open(path, LibC.O_RDWR | LibC.O_CLOEXEC);
        }

        using SafeFd closed = new(nothing);
        if (moved.IsInvalid || closed.IsInvalid || LibC.dup2(closed.Fd, descriptor.Fd) < 0)
        {
            LinuxException exception = LinuxException.FromLastError("move a standard descriptor away");
            moved.Dispose();
            throw exception;
        }

        // The number is not ours any more.
        descriptor.SetHandleAsInvalid();
        return moved;
    }
}
