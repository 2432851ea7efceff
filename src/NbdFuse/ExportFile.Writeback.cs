using Fuse;
using Linux;

namespace NbdFuse;

/// <content>
/// A writeback cache lets programs write past the end: the kernel keeps the size of the file itself and does not ask.
/// It learns of it only when it pushes these pages. They fail with ENOSPC, so that fsync(2) and close(2) tell; the
/// kernel's size is corrected; and a program that goes on writing gets ENOSPC from its next write(2), before which the
/// kernel is made to ask for attributes.
/// </content>
internal sealed partial class ExportFile
{
    // So long after pages past the end the next write(2) is still taken for one of the program that made them.
    private const long OverrunMilliseconds = 1000;

    // When the next write(2) shall fail at the latest, by Environment.TickCount64; 0: it need not.
    private long _refuseUntil;

    /// <summary>The kernel's cache of this file; null until the mount is up.</summary>
    internal KernelCache? Kernel { get; set; }

    /// <summary>A close(2). With a writeback cache the kernel pushes it first, and tells the caller of errors.</summary>
    internal void Flush(FuseRequest request)
    {
        if (_options.Cache == CacheMode.Writeback)
        {
            request.ReplyEmpty();
        }
        else
        {
            request.ReplyError(Errno.ENOSYS);
        }
    }

    /// <summary>Whether the write(2) for which the kernel asks for attributes must fail.</summary>
    internal bool RefusesWriter(FuseRequest request) =>
        request.IsForOpenFile
        && Volatile.Read(ref _refuseUntil) != 0
        && Interlocked.Exchange(ref _refuseUntil, 0) >= Environment.TickCount64;

    private void TellOfOverrun()
    {
        Volatile.Write(ref _refuseUntil, Environment.TickCount64 + OverrunMilliseconds);
        if (Kernel is KernelCache kernel)
        {
            _ = Task.Factory.StartNew(
                () =>
                {
                    kernel.ForgetAttributes();
                    kernel.CorrectSize(_size);
                },
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default);
        }
    }
}
