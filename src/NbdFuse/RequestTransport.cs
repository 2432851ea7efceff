using Fuse;
using Linux;

namespace NbdFuse;

/// <summary>How requests of the kernel come to us.</summary>
internal enum RequestTransport
{
    /// <summary>Through rings where the system allows it, otherwise through the device.</summary>
    Auto,

    /// <summary>Through /dev/fuse.</summary>
    Device,

    /// <summary>Through rings (FUSE over io_uring), or not at all.</summary>
    Uring,
}

/// <summary>Makes the rings that the choice of a transport asks for, and says why there are none.</summary>
internal static class RequestTransports
{
    private const string HowToEnable =
        "as root: echo Y >/sys/module/fuse/parameters/enable_uring; needs Linux 6.14";

    /// <summary>The first ring, if there are to be any. The others are made with the connections.</summary>
    /// <exception cref="UsageException">There must be rings, and cannot be.</exception>
    internal static RingSet? MakeRings(Invocation invocation, Log log)
    {
        bool isMust = invocation.Transport == RequestTransport.Uring;
        if (invocation.Transport == RequestTransport.Device)
        {
            return null;
        }

        if (invocation.SingleThreaded && !isMust)
        {
            Refuse(isMust, log, "-s asks for a single thread (--transport=uring uses it all the same)");
            return null;
        }

        if (invocation.All)
        {
            Refuse(isMust, log, "--all has connections that come and go");
            return null;
        }

        if (invocation.Fuse.AutoUnmount)
        {
            // fusermount3 looks once, right after our end, whether the mount is dead. With rings it dies later.
            Refuse(isMust, log, "-o auto_unmount would not work");
            return null;
        }

        if (!FuseSession.IsUringEnabled)
        {
            Refuse(isMust, log, $"the kernel does not offer it ({HowToEnable})");
            return null;
        }

        RingSet rings = new("ring");
        try
        {
            _ = rings.Get(0);
            return rings;
        }
        catch (LinuxException exception)
        {
            rings.Dispose();
            Refuse(isMust, log, $"{exception.Message} (sysctl kernel.io_uring_disabled must be 0)");
            return null;
        }
    }

    /// <summary>Says that requests come through the device, and why; an error if they must not.</summary>
    /// <exception cref="UsageException">There must be rings.</exception>
    internal static void Refuse(bool isMust, Log log, string reason)
    {
        if (isMust)
        {
            throw new UsageException($"--transport=uring: FUSE over io_uring cannot be used: {reason}");
        }

        log.Verbose($"requests come through /dev/fuse; FUSE over io_uring cannot be used: {reason}");
    }
}
