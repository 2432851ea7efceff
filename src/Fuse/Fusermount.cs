using System.Globalization;
using System.Text;
using Linux;
using Tmds.Linux;

namespace Fuse;

/// <summary>Mounting through fusermount3, the set-user-id program of the package fuse3.</summary>
internal static unsafe class Fusermount
{
    private const string Program = "fusermount3";
    private const int StandardError = 2;
    private const int ChannelNumber = 3;
    private const int MaxMessageBytes = 4096;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    /// <summary>Mounts.</summary>
    /// <param name="mountpoint">Absolute.</param>
    /// <param name="options">What it shall look like.</param>
    /// <param name="denied">Why we could not do it ourselves.</param>
    /// <param name="autoUnmount">The running helper, if one was asked for.</param>
    /// <returns>The device of the new mount.</returns>
    /// <exception cref="FuseException">It refused, or is not installed.</exception>
    internal static SafeFd Mount(
        string mountpoint, FuseMountOptions options, LinuxException? denied, out FusermountHelper? autoUnmount)
    {
        (SafeFd ours, SafeFd theirs) = CreateSocketPair();
        ChildProcess? child = null;
        SafeFd? messages = null;
        bool keep = false;
        try
        {
            using (theirs)
            {
                child = Start(["-o", MountOptions(options), "--", mountpoint], theirs, denied, out messages);
            }

            SafeFd? device = ReceiveDescriptor(ours);
            if (device is null)
            {
                throw Failure($"mount on '{mountpoint}'", child, messages, denied);
            }

            keep = options.AutoUnmount;
            autoUnmount = keep ? new FusermountHelper(ours, child) : null;
            return device;
        }
        finally
        {
            messages?.Dispose();
            if (!keep)
            {
                ours.Dispose();
                _ = child?.WaitForExit(s_patience);
                child?.Dispose();
            }
        }
    }

    /// <exception cref="LinuxException">EBUSY and others that it names.</exception>
    /// <exception cref="FuseException">It refused for a reason of its own, or is not installed.</exception>
    internal static void Unmount(string mountpoint, bool lazy)
    {
        string[] arguments = lazy ? ["-u", "-z", "--", mountpoint] : ["-u", "--", mountpoint];
        using ChildProcess child = Start(arguments, null, null, out SafeFd messages);
        using (messages)
        {
            string text = ReadMessage(messages);
            if (child.WaitForExit(s_patience) && child.ExitStatus == 0)
            {
                return;
            }

            ReadOnlySpan<Errno> errors = [Errno.EBUSY, Errno.EPERM, Errno.EINVAL, Errno.ENOENT];
            foreach (Errno error in errors)
            {
                if (text.EndsWith(LinuxException.Describe(error), StringComparison.Ordinal))
                {
                    throw new LinuxException($"unmount '{mountpoint}' by {Program}", error);
                }
            }

            throw new FuseException($"unmount '{mountpoint}': {Reason(text, child)}");
        }
    }

    /// <summary>What goes after -o. A comma or backslash in a value is escaped, so that it stays part of it.</summary>
    internal static string MountOptions(FuseMountOptions options)
    {
        StringBuilder text = new();
        _ = text.Append("fsname=").Append(Escape(options.Source)).Append(",subtype=").Append(Escape(options.Subtype));
        ReadOnlySpan<(FuseMountFlags Flag, string Name)> names =
        [
            (FuseMountFlags.NoSuid, "nosuid"), (FuseMountFlags.NoDev, "nodev"), (FuseMountFlags.NoExec, "noexec"),
            (FuseMountFlags.Synchronous, "sync"), (FuseMountFlags.DirSync, "dirsync"),
            (FuseMountFlags.NoAtime, "noatime"), (FuseMountFlags.NoDirAtime, "nodiratime"),
        ];
        foreach ((FuseMountFlags flag, string name) in names)
        {
            if (options.Flags.HasFlag(flag))
            {
                _ = text.Append(',').Append(name);
            }
        }

        return text.Append(options.ReadOnly ? ",ro" : ",rw")
            .Append(options.AutoUnmount ? ",auto_unmount" : "")
            .Append(MountSystemCall.SharedOptions(options))
            .ToString();
    }

    private static string Escape(string value) =>
        value.Replace("\\", "\\\\", StringComparison.Ordinal).Replace(",", "\\,", StringComparison.Ordinal);

    private static ChildProcess Start(
        IEnumerable<string> arguments, SafeFd? channel, LinuxException? denied, out SafeFd messages)
    {
        (SafeFd readEnd, SafeFd writeEnd) = CreatePipe();
        using (writeEnd)
        {
            List<(SafeFd, int)> descriptors = [(writeEnd, StandardError)];
            Dictionary<string, string?> environment = new() { ["LC_ALL"] = "C", ["_FUSE_COMMFD"] = null };
            if (channel is not null)
            {
                descriptors.Add((channel, ChannelNumber));
                environment["_FUSE_COMMFD"] = ChannelNumber.ToString(CultureInfo.InvariantCulture);
            }

            try
            {
                ChildProcess child = ChildProcess.Spawn(
                    [Program, .. arguments],
                    new ChildProcessOptions { Environment = environment, FileDescriptors = descriptors });
                messages = readEnd;
                return child;
            }
            catch (LinuxException exception)
            {
                readEnd.Dispose();
                string because = denied is null ? "" : $"{denied.Message}; ";
                throw new FuseException(
                    $"{because}{exception.Message} (install the package fuse3, or run as root)", exception);
            }
        }
    }

    private static FuseException Failure(string what, ChildProcess child, SafeFd messages, LinuxException? denied)
    {
        string text = ReadMessage(messages);
        _ = child.WaitForExit(s_patience);
        string because = denied is null ? "" : $" (and without it: {denied.Message})";
        return new FuseException($"{what}: {Reason(text, child)}{because}");
    }

    private static string Reason(string text, ChildProcess child) =>
        text.Length > 0 ? text : $"{Program} ended with {child.ExitDescription ?? "no answer"}";

    /// <summary>What it wrote to its standard error, on one line.</summary>
    private static string ReadMessage(SafeFd messages)
    {
        byte* buffer = stackalloc byte[MaxMessageBytes];
        int length = 0;
        Deadline deadline = Deadline.After(s_patience);
        while (length < MaxMessageBytes && WaitReadable(messages, deadline))
        {
            int read = (int)(long)LibC.read(messages.Fd, buffer + length, MaxMessageBytes - length);
            if (read < 0 && LinuxException.LastErrno == Errno.EINTR)
            {
                continue;
            }

            if (read <= 0)
            {
                break;
            }

            length += read;
        }

        return Encoding.UTF8.GetString(buffer, length).Trim().ReplaceLineEndings("; ");
    }

    /// <summary>Takes the descriptor that comes with one byte.</summary>
    /// <returns>Null when the other side closed without sending one, or was silent for too long.</returns>
    private static SafeFd? ReceiveDescriptor(SafeFd socket)
    {
        const int ControlBytes = 64;
        byte data;
        byte* control = stackalloc byte[ControlBytes];
        iovec vector = new() { iov_base = &data, iov_len = 1 };
        msghdr message = new() { msg_iov = &vector, msg_iovlen = 1, msg_control = control, msg_controllen = ControlBytes };
        while (true)
        {
            if (!WaitReadable(socket, Deadline.After(s_patience)))
            {
                return null;
            }

            int received = (int)(long)LibC.recvmsg(socket.Fd, &message, LibC.MSG_CMSG_CLOEXEC);
            if (received < 0 && LinuxException.LastErrno == Errno.EINTR)
            {
                continue;
            }

            cmsghdr* header = received > 0 ? LibC.CMSG_FIRSTHDR(&message) : null;
            return header != null && header->cmsg_level == LibC.SOL_SOCKET && header->cmsg_type == LibC.SCM_RIGHTS
                ? new SafeFd(*(int*)LibC.CMSG_DATA(header))
                : null;
        }
    }

    private static bool WaitReadable(SafeFd fd, Deadline deadline)
    {
        pollfd poll = new() { fd = fd.Fd, events = LibC.POLLIN };
        int ready;
        do
        {
            ready = LibC.poll(&poll, 1, deadline.RemainingMilliseconds);
        }
        while (ready < 0 && LinuxException.LastErrno == Errno.EINTR);

        return ready > 0;
    }

    private static (SafeFd Ours, SafeFd Theirs) CreateSocketPair()
    {
        int* pair = stackalloc int[2];
        return LibC.socketpair(LibC.AF_UNIX, LibC.SOCK_STREAM | LibC.SOCK_CLOEXEC, 0, pair) < 0
            ? throw LinuxException.FromLastError("make a socket pair")
            : (new SafeFd(pair[0]), new SafeFd(pair[1]));
    }

    private static (SafeFd ReadEnd, SafeFd WriteEnd) CreatePipe()
    {
        int* pair = stackalloc int[2];
        return LibC.pipe2(pair, LibC.O_CLOEXEC) < 0
            ? throw LinuxException.FromLastError("make a pipe")
            : (new SafeFd(pair[0]), new SafeFd(pair[1]));
    }
}
