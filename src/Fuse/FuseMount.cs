using Linux;

namespace Fuse;

/// <summary>A mount of type fuse, and the device through which it is served.</summary>
public sealed class FuseMount : IDisposable
{
    private FuseMount(SafeFd device, string mountpoint, bool isFileMount, uint maxReadBytes)
    {
        Device = device;
        Mountpoint = mountpoint;
        IsFileMount = isFileMount;
        MaxReadBytes = maxReadBytes;
    }

    /// <summary>The open /dev/fuse of this mount. Closing it, when no clone is open, ends the mount's life.</summary>
    public SafeFd Device { get; }

    /// <summary>Where it is mounted: absolute, without symbolic links.</summary>
    public string Mountpoint { get; }

    /// <summary>The root is a regular file, not a directory.</summary>
    public bool IsFileMount { get; }

    /// <summary>The mount's max_read, 0 for none.</summary>
    internal uint MaxReadBytes { get; }

    /// <summary>
    /// Mounts: with mount(2) where that is permitted, otherwise through fusermount3.
    /// </summary>
    /// <param name="mountpoint">An existing directory, or a regular file, which the mount hides.</param>
    /// <param name="options">What it shall look like.</param>
    /// <exception cref="LinuxException">A system call failed; the message says what to do about it.</exception>
    /// <exception cref="FuseException">fusermount3 refused, with its own words.</exception>
    public static FuseMount Create(string mountpoint, FuseMountOptions options) => throw new NotImplementedException();

    /// <summary>Whether a path is a mount whose daemon is gone: stat(2) gives ENOTCONN.</summary>
    public static bool IsDeadMount(string path) => throw new NotImplementedException();

    /// <summary>Unmounts a dead mount lazily.</summary>
    /// <exception cref="LinuxException">EPERM and others.</exception>
    public static void CleanDeadMount(string path) => throw new NotImplementedException();

    /// <summary>
    /// Sets how much the kernel reads ahead (read_ahead_kb of the mount's bdi). The mount itself is not touched.
    /// </summary>
    /// <param name="kibibytes">In KiB.</param>
    /// <returns>False when that is not permitted.</returns>
    public bool TrySetReadAhead(int kibibytes) => throw new NotImplementedException();

    /// <summary>Unmounts. Nothing happens when the mount is gone already. Not to be called from a worker thread.</summary>
    /// <param name="lazy">Take it away at once; it lives on for those who have files open.</param>
    /// <exception cref="LinuxException">EBUSY when files are open and it is not lazy.</exception>
    public void Unmount(bool lazy) => throw new NotImplementedException();

    /// <summary>Closes the device. Does not unmount.</summary>
    public void Dispose() => Device.Dispose();
}
