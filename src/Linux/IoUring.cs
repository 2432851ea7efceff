using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tmds.Linux;

namespace Linux;

/// <summary>
/// The two queues shared with the kernel, by raw system calls. Belongs to the thread that made it, alone: that is
/// what SINGLE_ISSUER and DEFER_TASKRUN demand, and why plain loads and stores do for our ends of the queues.
/// </summary>
internal sealed unsafe class IoUring : IDisposable
{
    private const int SYS_io_uring_setup = 425;
    private const int SYS_io_uring_enter = 426;

    // IORING_SETUP_*. NO_SQARRAY (Linux 6.6): entry n of the queue is submission n.
    private const uint CompletionSize = 1 << 3;
    private const uint CooperativeTaskRun = 1 << 8;
    private const uint LargeSubmissions = 1 << 10;
    private const uint SingleIssuer = 1 << 12;
    private const uint DeferTaskRun = 1 << 13;
    private const uint NoSubmissionArray = 1 << 16;

    private const int GetEvents = 1;
    private const long SubmissionsOffset = 0x10000000;

    private readonly SafeFd _fd;
    private readonly byte* _rings;
    private readonly int _ringsBytes;
    private readonly IoUringSubmission* _submissions;
    private readonly uint _submissionCount;
    private readonly uint* _submissionHead;
    private readonly uint* _submissionTail;
    private readonly uint* _completionHead;
    private readonly uint* _completionTail;
    private readonly Completion* _completions;
    private readonly uint _completionMask;

    // Our end of the submission queue: what was filled, and what the kernel was told of.
    private uint _filled;
    private uint _submitted;

    /// <param name="submissions">Most submissions between two calls of <see cref="Enter"/>; a power of two.</param>
    /// <param name="completions">Completions that fit; a power of two.</param>
    /// <exception cref="LinuxException">
    /// EPERM when io_uring is forbidden (sysctl kernel.io_uring_disabled), ENOSYS, EINVAL before Linux 6.6, ENOMEM.
    /// </exception>
    internal IoUring(uint submissions, uint completions)
    {
        Parameters parameters = new()
        {
            Flags = CompletionSize | CooperativeTaskRun | LargeSubmissions | SingleIssuer | DeferTaskRun
                | NoSubmissionArray,
            CompletionEntries = completions,
        };
        int fd = (int)LibC.syscall(SYS_io_uring_setup, (int)submissions, &parameters);
        if (fd < 0)
        {
            throw LinuxException.FromLastError("set up an io_uring");
        }

        _fd = new SafeFd(fd);
        _submissionCount = parameters.SubmissionEntries;
        _ringsBytes = (int)(parameters.Completion.Entries + (parameters.CompletionEntries * sizeof(Completion)));
        _rings = Map(_ringsBytes, 0);
        _submissions = (IoUringSubmission*)Map(SubmissionsBytes, SubmissionsOffset);
        _submissionHead = (uint*)(_rings + parameters.Submission.Head);
        _submissionTail = (uint*)(_rings + parameters.Submission.Tail);
        _completionHead = (uint*)(_rings + parameters.Completion.Head);
        _completionTail = (uint*)(_rings + parameters.Completion.Tail);
        _completions = (Completion*)(_rings + parameters.Completion.Entries);
        _completionMask = parameters.CompletionEntries - 1;
    }

    private int SubmissionsBytes => (int)(_submissionCount * IoUringSubmission.SizeBytes);

    /// <summary>A cleared submission to be filled before the next <see cref="Enter"/>; null when there is no room.</summary>
    internal IoUringSubmission* TryPrepare()
    {
        if (_filled - Volatile.Read(ref *_submissionHead) >= _submissionCount)
        {
            return null;
        }

        IoUringSubmission* submission = _submissions + (_filled++ & (_submissionCount - 1));
        Unsafe.InitBlock(submission, 0, IoUringSubmission.SizeBytes);
        return submission;
    }

    /// <summary>Hands over what was prepared, and waits until there is a completion.</summary>
    /// <param name="wait">False: only what is ready is collected.</param>
    /// <exception cref="LinuxException">The kernel does not go on.</exception>
    internal void Enter(bool wait)
    {
        Volatile.Write(ref *_submissionTail, _filled);
        int taken = (int)LibC.syscall(
            SYS_io_uring_enter, _fd.Fd, (int)(_filled - _submitted), wait ? 1 : 0, GetEvents, (void*)null, 0);
        if (taken >= 0)
        {
            _submitted += (uint)taken;
            return;
        }

        // EBUSY, EAGAIN: the kernel wants completions collected first, or has no memory at the moment.
        Errno errno = LinuxException.LastErrno;
        if (errno is not (Errno.EINTR or Errno.EBUSY or Errno.EAGAIN))
        {
            throw new LinuxException("wait for an io_uring", errno);
        }
    }

    /// <summary>Whether <see cref="TryTake"/> would find something.</summary>
    internal bool HasCompletion => *_completionHead != Volatile.Read(ref *_completionTail);

    /// <summary>Takes the oldest completion, if there is one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool TryTake(out ulong userData, out int result)
    {
        uint head = *_completionHead;
        if (head == Volatile.Read(ref *_completionTail))
        {
            (userData, result) = (0, 0);
            return false;
        }

        Completion* completion = _completions + (head & _completionMask);
        (userData, result) = (completion->UserData, completion->Result);
        Volatile.Write(ref *_completionHead, head + 1);
        return true;
    }

    /// <summary>Ends whatever the kernel has not done yet.</summary>
    public void Dispose()
    {
        _ = LibC.munmap(_submissions, SubmissionsBytes);
        _ = LibC.munmap(_rings, _ringsBytes);
        _fd.Dispose();
    }

    private byte* Map(int bytes, long offset)
    {
        void* address = LibC.mmap(
            null, bytes, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED | LibC.MAP_POPULATE, _fd.Fd, offset);
        if (address == LibC.MAP_FAILED)
        {
            LinuxException exception = LinuxException.FromLastError("map the queues of an io_uring");
            _fd.Dispose();
            throw exception;
        }

        return (byte*)address;
    }

    /// <summary>struct io_uring_cqe.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Completion
    {
        internal ulong UserData;
        internal int Result;
        internal uint Flags;
    }

    /// <summary>Where a queue's parts lie (struct io_sqring_offsets and io_cqring_offsets).</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct QueueOffsets
    {
        internal uint Head;
        internal uint Tail;
        internal uint Mask;
        internal uint Count;

        /// <summary>Of the submission queue: its flags; of the other: a count of what was lost.</summary>
        internal uint FlagsOrOverflow;

        /// <summary>Of the completion queue: where its entries are.</summary>
        internal uint Entries;
        internal uint Array;
        internal uint Reserved;
        internal ulong Address;
    }

    /// <summary>struct io_uring_params.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Parameters
    {
        internal uint SubmissionEntries;
        internal uint CompletionEntries;
        internal uint Flags;
        internal uint ThreadCpu;
        internal uint ThreadIdle;
        internal uint Features;
        internal uint WorkQueueFd;
        internal uint Reserved0;
        internal uint Reserved1;
        internal uint Reserved2;
        internal QueueOffsets Submission;
        internal QueueOffsets Completion;
    }
}
