using System.Globalization;
using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>
/// A mount of type fuse, and the device through which it is served. Not thread-safe. No member touches the mounted
/// file system: this process may be the one that has to answer.
/// </summary>
public sealed class FuseMount : IDisposable
{
    private readonly bool _byFusermount;
    private FusermountHelper? _autoUnmount;

    private FuseMount(SafeFd device, string mountpoint, FuseMountOptions options)
    {
        Device = device;
        Mountpoint = mountpoint;
        MaxReadBytes = options.MaxReadBytes;
    }

    private FuseMount(SafeFd device, Mountpoint mountpoint, FuseMountOptions options, bool byFusermount)
        : this(device, mountpoint.Path, options)
    {
        IsFileMount = mountpoint.IsFile;
        _byFusermount = byFusermount;
        DeviceNumber = MountTable.At(mountpoint.Path) is [.., MountTableEntry last] ? last.Device : null;
    }

    /// <summary>The open /dev/fuse of this mount. Closing it, when no clone is open, ends the mount's life.</summary>
    public SafeFd Device { get; }

    /// <summary>Where it is mounted: absolute, without symbolic links. "/dev/fd/N" if it was handed over.</summary>
    public string Mountpoint { get; }

    /// <summary>The root is a regular file, not a directory. False if the mount was handed over.</summary>
    public bool IsFileMount { get; }

    /// <summary>
    /// "MAJOR:MINOR" of the mounted file system, as in /sys/class/bdi. Null if the mount was handed over.
    /// </summary>
    public string? DeviceNumber { get; }

    /// <summary>The mount's max_read, 0 for none.</summary>
    internal uint MaxReadBytes { get; }

    /// <summary>
    /// Mounts: with mount(2) where that is permitted, otherwise through fusermount3.
    /// </summary>
    /// <param name="mountpoint">
    /// An existing directory, or a regular file, which the mount hides. Or "/dev/fd/N": a device whose mount was
    /// made by whoever started this program, who will also unmount it.
    /// </param>
    /// <param name="options">What it shall look like.</param>
    /// <exception cref="LinuxException">A system call failed; the message says what to do about it.</exception>
    /// <exception cref="FuseException">fusermount3 refused, with its own words; or it is not installed.</exception>
    public static FuseMount Create(string mountpoint, FuseMountOptions options)
    {
        ArgumentNullException.ThrowIfNull(mountpoint);
        ArgumentNullException.ThrowIfNull(options);
        const string HandedOver = "/dev/fd/";
        if (mountpoint.StartsWith(HandedOver, StringComparison.Ordinal)
            && int.TryParse(mountpoint.AsSpan(HandedOver.Length), CultureInfo.InvariantCulture, out int fd))
        {
            _ = LibC.fcntl(fd, LibC.F_SETFD, LibC.FD_CLOEXEC);
            return new FuseMount(new SafeFd(fd), mountpoint, options);
        }

        Mountpoint target = Fuse.Mountpoint.Resolve(mountpoint);

        // The helper that unmounts after us needs to have made the mount.
        LinuxException? denied = null;
        if (!options.AutoUnmount)
        {
            try
            {
                return new FuseMount(MountSystemCall.Mount(target, options), target, options, byFusermount: false);
            }
            catch (LinuxException exception) when (exception.Errno is Errno.EPERM or Errno.EACCES)
            {
                denied = exception;
            }
        }

        SafeFd device = Fusermount.Mount(target.Path, options, denied, out FusermountHelper? autoUnmount);
        return new FuseMount(device, target, options, byFusermount: true) { _autoUnmount = autoUnmount };
    }

    /// <summary>
    /// Whether a path is a mount whose daemon is gone: stat(2) gives ENOTCONN, or ECONNABORTED or, for one with rings,
    /// ECANCELED when it goes just now.
    /// </summary>
    public static bool IsDeadMount(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return Fuse.Mountpoint.Stat(path) is Errno.ENOTCONN or Errno.ECONNABORTED or Errno.ECANCELED;
    }

    /// <summary>Unmounts a dead mount lazily.</summary>
    /// <exception cref="LinuxException">EPERM and others.</exception>
    /// <exception cref="FuseException">fusermount3 refused.</exception>
    public static void CleanDeadMount(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        Unmount(Fuse.Mountpoint.Canonical(path), lazy: true, byFusermount: false);
    }

    /// <summary>
    /// Sets how much the kernel reads ahead (read_ahead_kb of the mount's bdi). The mount itself is not touched.
    /// </summary>
    /// <param name="kibibytes">In KiB.</param>
    /// <returns>False when that is not permitted, or the mount is not known.</returns>
    public bool TrySetReadAhead(int kibibytes)
    {
        if (DeviceNumber is null)
        {
            return false;
        }

        try
        {
            File.WriteAllText(
                $"/sys/class/bdi/{DeviceNumber}/read_ahead_kb", kibibytes.ToString(CultureInfo.InvariantCulture));
            return true;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>
    /// Unmounts. Nothing happens when the mount is gone already, or was handed over. Call it while the session
    /// serves, from another thread than its workers: the kernel writes cached data back first.
    /// </summary>
    /// <param name="lazy">Take it away at once; it lives on for those who have files open.</param>
    /// <exception cref="LinuxException">EBUSY when files are open and it is not lazy, or when something else is
    /// mounted over it.</exception>
    /// <exception cref="FuseException">fusermount3 refused.</exception>
    public void Unmount(bool lazy)
    {
        List<MountTableEntry> mounts = MountTable.At(Mountpoint);
        if (DeviceNumber is null || !mounts.Exists(mount => mount.Device == DeviceNumber))
        {
            return;
        }

        if (mounts[^1].Device != DeviceNumber)
        {
            throw new LinuxException($"unmount '{Mountpoint}': something else is mounted over it", Errno.EBUSY);
        }

        try
        {
            Unmount(Mountpoint, lazy, _byFusermount);
        }
        catch (IOException) when (!MountTable.At(Mountpoint).Exists(mount => mount.Device == DeviceNumber))
        {
            // Somebody else was faster.
        }
    }

    /// <summary>Closes the device. Does not unmount, but lets the auto-unmount helper do so.</summary>
    public void Dispose()
    {
        Device.Dispose();
        _autoUnmount?.Dispose();
    }

    private static void Unmount(string mountpoint, bool lazy, bool byFusermount)
    {
        Errno error = byFusermount ? Errno.EPERM : MountSystemCall.Unmount(mountpoint, lazy);
        if (error == Errno.EPERM)
        {
            Fusermount.Unmount(mountpoint, lazy);
        }
        else if (error != Errno.None)
        {
            throw new LinuxException($"unmount '{mountpoint}'", error);
        }
    }
}
