using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>
/// An open /dev/fuse: the one of the mount, or a clone of it. Thread-safe. Holds the descriptor open for its life.
/// </summary>
internal sealed unsafe class DeviceChannel : FuseChannel, IDisposable
{
    private readonly SafeFd _device;
    private readonly bool _ownsDevice;

    // Valid as long as the reference that the constructor took: the hot path need not count references.
    private readonly int _fd;

    internal DeviceChannel(SafeFd device, bool ownsDevice)
    {
        _device = device;
        _ownsDevice = ownsDevice;
        bool added = false;
        device.DangerousAddRef(ref added);
        _fd = device.Fd;
    }

    /// <summary>Opens the device once more and joins it to the connection of <paramref name="device"/>.</summary>
    /// <exception cref="LinuxException">open(2) or ioctl(2) failed.</exception>
    internal static DeviceChannel Clone(SafeFd device)
    {
        SafeFd clone = FuseDevice.Open();
        uint master = (uint)device.Fd;
        if (LibC.ioctl(clone.Fd, unchecked((int)FuseAbi.IoctlClone), &master) < 0)
        {
            LinuxException exception = LinuxException.FromLastError("clone the FUSE device");
            clone.Dispose();
            throw exception;
        }

        return new DeviceChannel(clone, ownsDevice: true);
    }

    /// <summary>Reads one request; blocks until there is one.</summary>
    internal Errno Read(byte* buffer, int size, out int length)
    {
        nint read = (nint)(long)LibC.read(_fd, buffer, size);
        length = (int)Math.Max(read, 0);
        return read < 0 ? LinuxException.LastErrno : Errno.None;
    }

    /// <summary>Waits for a request.</summary>
    /// <param name="deadline">When to give up.</param>
    /// <returns>False when there was none in time.</returns>
    internal bool Poll(Deadline deadline)
    {
        pollfd poll = new() { fd = _fd, events = LibC.POLLIN };
        int ready;
        do
        {
            ready = LibC.poll(&poll, 1, deadline.RemainingMilliseconds);
        }
        while (ready < 0 && LinuxException.LastErrno == Errno.EINTR);

        return ready != 0;
    }

    internal override Errno Send(byte* frame, uint length)
    {
        Errno error;
        do
        {
            error = LibC.write(_fd, frame, (int)length) < 0 ? LinuxException.LastErrno : Errno.None;
        }
        while (error == Errno.EINTR);

        return error;
    }

    internal override Errno Send(iovec* parts, int count)
    {
        Errno error;
        do
        {
            error = FileCalls.Write(_fd, parts, count) < 0 ? LinuxException.LastErrno : Errno.None;
        }
        while (error == Errno.EINTR);

        return error;
    }

    public void Dispose()
    {
        _device.DangerousRelease();
        if (_ownsDevice)
        {
            _device.Dispose();
        }
    }
}
