using Tmds.Linux;

namespace Linux;

/// <summary>The process that started this one.</summary>
public static class ParentProcess
{
    /// <summary>From now on this process gets a signal when its parent ends, also when it has ended just now.</summary>
    /// <param name="signal">Such as SIGTERM.</param>
    /// <param name="parentId">The parent's process id when this process started.</param>
    public static void SignalAtEnd(int signal, int parentId)
    {
        _ = Interop.prctl(Interop.PR_SET_PDEATHSIG, signal, 0, 0, 0);
        if ((int)LibC.getppid() != parentId)
        {
            _ = LibC.kill((int)LibC.getpid(), signal);
        }
    }
}
