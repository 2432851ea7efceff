using Linux;

namespace Fuse;

/// <summary>
/// The kernel's queues that one ring serves, with their entries. The kernel puts a request into the queue of the
/// processor that its caller runs on. Belongs to the ring's thread, but for <see cref="RegisterAsync"/>, the counters
/// and <see cref="Dispose"/>.
/// </summary>
internal sealed unsafe class UringQueues : IRingClient, IRingWork, IDisposable
{
    private readonly FuseSession _session;
    private readonly int _device;
    private readonly FuseDispatcher _dispatcher;
    private readonly FuseRequestPool _pool;
    private readonly FuseWarnings _warnings;
    private readonly UringLayout _layout;
    private readonly List<NativeBuffer> _memory = [];
    private readonly List<UringEntry> _entries = [];
    private readonly Queue<UringEntry> _commitsLater = new();
    private readonly TaskCompletionSource<LinuxException?> _registered = new(
        TaskCreationOptions.RunContinuationsAsynchronously);

    private int _client;
    private Errno _refusal;
    private bool _isRegistering;
    private volatile int _alive;
    private long _served;

    internal UringQueues(
        FuseSession session,
        RingLoop loop,
        int device,
        FuseDispatcher dispatcher,
        FuseRequestPool pool,
        FuseWarnings warnings,
        UringLayout layout)
    {
        _session = session;
        Loop = loop;
        _device = device;
        _dispatcher = dispatcher;
        _pool = pool;
        _warnings = warnings;
        _layout = layout;
        LargeEntriesKept = FuseRequestPool.MaxLargeIdle / layout.Rings;
    }

    internal RingLoop Loop { get; }

    /// <summary>Entries whose data takes much memory.</summary>
    internal int LargeEntries { get; set; }

    /// <summary>More of them give memory back as soon as they can.</summary>
    internal int LargeEntriesKept { get; }

    /// <summary>Requests that arrived. May be read by any thread.</summary>
    internal long Served => Volatile.Read(ref _served);

    /// <summary>Whether the kernel may still use an entry. May be read by any thread.</summary>
    internal bool IsAlive => _alive > 0;

    IRingWork? IRingWork.NextPosted { get; set; }

    /// <summary>Gives all entries to the kernel.</summary>
    /// <returns>Null, or why it did not take an entry for each queue.</returns>
    internal Task<LinuxException?> RegisterAsync()
    {
        Loop.Post(this);
        return _registered.Task;
    }

    /// <summary>Registers; and, when the kernel had its say, tells the outcome.</summary>
    void IRingWork.Run()
    {
        if (_isRegistering)
        {
            _isRegistering = false;
            bool isServed = _layout.QueuesOf(Loop.Index).All(
                queue => _entries.Exists(entry => entry.QueueId == queue && entry.IsRegistered));
            _registered.SetResult(isServed ? null : new LinuxException("register with FUSE over io_uring", _refusal));
            return;
        }

        _isRegistering = true;
        _client = Loop.Add(this);
        try
        {
            RegisterEntries();
        }
        catch (LinuxException exception)
        {
            _refusal = exception.Errno;
            Refuse();
        }

        Loop.Post(this);
    }

    /// <inheritdoc/>
    public void Completed(uint tag, int result)
    {
        UringEntry? entry = tag < (uint)_entries.Count ? _entries[(int)tag] : null;
        if (result >= 0 && entry is not null)
        {
            // Only this thread writes it.
            Volatile.Write(ref _served, _served + 1);
            entry.Dispatch(_dispatcher);
            return;
        }

        Errno error = (Errno)(-result);
        if (_isRegistering)
        {
            _refusal = _refusal == Errno.None ? error : _refusal;
        }
        else if (error is not (Errno.ENOTCONN or Errno.ECONNABORTED or Errno.ECANCELED))
        {
            _warnings.Report(
                $"commit {error}", $"the kernel did not take a reply on a ring: {LinuxException.Describe(error)}");
        }

        if (entry is { IsRegistered: true })
        {
            entry.IsRegistered = false;
            _alive--;
        }
    }

    /// <inheritdoc/>
    public void BeforeWait()
    {
        for (int i = _commitsLater.Count; i > 0; i--)
        {
            _commitsLater.Dequeue().Run();
        }
    }

    /// <inheritdoc/>
    public void LoopFailed(Exception reason)
    {
        _ = _registered.TrySetResult(new LinuxException("serve a ring", Errno.EIO));
        _session.RingFailed(reason);
    }

    /// <summary>Prepares the commit of an entry.</summary>
    internal void Commit(UringEntry entry, ulong commitId)
    {
        IoUringSubmission* submission = Loop.Prepare(_client, entry.Index);
        submission->Operation = IoUringOperation.Command;
        submission->Fd = _device;
        submission->CommandCode = (uint)UringCommand.CommitAndFetch;
        UringCommandArguments* arguments = (UringCommandArguments*)submission->Command;
        arguments->CommitId = commitId;
        arguments->QueueId = entry.QueueId;
    }

    /// <summary>Commits as soon as there is a request object again.</summary>
    internal void CommitLater(UringEntry entry) => _commitsLater.Enqueue(entry);

    /// <summary>A request object whose data is shown at an entry's payload. Null when there is none at the moment.</summary>
    internal FuseRequest? TryTakeRequest(byte* payload)
    {
        FuseRequest? request = null;
        try
        {
            request = _pool.TryRent();
            if (request is not null)
            {
                _pool.Show(request, payload);
            }

            return request;
        }
        catch (LinuxException)
        {
            if (request is not null)
            {
                _pool.Return(request);
            }

            return null;
        }
    }

    internal void Malformed(in FuseInHeader header) => _warnings.Report(
        "malformed", $"the kernel sent a malformed {header.Opcode} of {header.Length} bytes on a ring");

    /// <summary>Frees the memory of the entries: only when none is alive.</summary>
    public void Dispose() => _memory.ForEach(memory => memory.Dispose());

    private void RegisterEntries()
    {
        int entries = _layout.QueuesOf(Loop.Index).Sum(_layout.DepthOf);
        NativeBuffer headers = new(entries * UringEntryHeader.SizeBytes);
        _memory.Add(headers);
        UringEntryHeader* header = (UringEntryHeader*)headers.Start;
        foreach (int queue in _layout.QueuesOf(Loop.Index))
        {
            for (int i = 0; i < _layout.DepthOf(queue); i++)
            {
                NativeBuffer payload = new(_pool.ShownBytes);
                _memory.Add(payload);
                FuseRequest request = TryTakeRequest(payload.Start)
                    ?? throw new LinuxException("memory for FUSE over io_uring", Errno.ENOMEM);
                uint index = (uint)_entries.Count;
                UringEntry entry = new(this, index, (ushort)queue, header++, payload.Start, request);
                entry.Register(Loop.Prepare(_client, index), _device, _pool.ShownBytes);
                entry.IsRegistered = true;
                _entries.Add(entry);
                _alive++;
            }
        }
    }

    /// <summary>
    /// Makes the kernel give up waiting for our entries, by one that it cannot take: all requests then go to the device.
    /// </summary>
    private void Refuse()
    {
        IoUringSubmission* submission = Loop.Prepare(_client, uint.MaxValue);
        submission->Operation = IoUringOperation.Command;
        submission->Fd = _device;
        submission->CommandCode = (uint)UringCommand.Register;
        ((UringCommandArguments*)submission->Command)->QueueId = ushort.MaxValue;
    }
}
