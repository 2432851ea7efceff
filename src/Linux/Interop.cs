using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tmds.Linux;

[assembly: DisableRuntimeMarshalling]

namespace Linux;

/// <summary>What Tmds.LibC lacks of libc. Names and constants are those of libc.</summary>
internal static unsafe partial class Interop
{
    internal const short POSIX_SPAWN_SETPGROUP = 0x02;
    internal const short POSIX_SPAWN_SETSIGDEF = 0x04;
    internal const short POSIX_SPAWN_SETSIGMASK = 0x08;

    internal const uint SYNC_FILE_RANGE_WRITE_AND_WAIT = 7;

    /// <summary>Room for posix_spawnattr_t and posix_spawn_file_actions_t (336 and 80 bytes in glibc).</summary>
    internal const int SpawnStructBytes = 512;

    /// <summary>Room for a sigset_t (128 bytes in glibc and musl).</summary>
    internal const int SigsetBytes = 128;

    internal const int WNOHANG = 1;

    internal const int SYS_pidfd_open = 434;

    internal const int RWF_NOWAIT = 0x08;

    internal const int PR_SET_PDEATHSIG = 1;

    internal const int AT_FDCWD = -100;
    internal const int AT_STATX_FORCE_SYNC = 0x2000;
    internal const uint STATX_BASIC_STATS = 0x7ff;

    // The posix_spawn family returns the error number instead of setting errno.
    [LibraryImport("libc")]
    internal static partial int posix_spawn(int* pid, byte* path, void* actions, void* attributes, byte** argv, byte** envp);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_init(void* actions);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_adddup2(void* actions, int fd, int newFd);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_destroy(void* actions);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_init(void* attributes);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setflags(void* attributes, short flags);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setpgroup(void* attributes, int group);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setsigdefault(void* attributes, void* signals);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setsigmask(void* attributes, void* signals);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_destroy(void* attributes);

    [LibraryImport("libc")]
    internal static partial int sigemptyset(void* signals);

    [LibraryImport("libc")]
    internal static partial int sigaddset(void* signals, int signal);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int waitpid(int pid, int* status, int options);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint preadv2(int fd, iovec* vectors, int count, long offset, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int statx(int directory, byte* path, int flags, uint mask, void* status);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint copy_file_range(
        int source, long* sourceOffset, int destination, long* destinationOffset, nint length, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sync_file_range(int fd, long offset, long length, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint writev(int fd, iovec* vectors, int count);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint sendfile(int socket, int file, long* offset, nint length);

    // A cpu_set_t of so many bytes; thread 0 is the calling one.
    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sched_getaffinity(int thread, nint bytes, byte* processors);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sched_setaffinity(int thread, nint bytes, byte* processors);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int prctl(int option, nint argument2, nint argument3, nint argument4, nint argument5);
}
