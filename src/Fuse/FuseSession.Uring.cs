using Linux;

namespace Fuse;

public sealed partial class FuseSession
{
    private const string EnablePath = "/sys/module/fuse/parameters/enable_uring";

    private UringLayout? _layout;
    private UringQueues[] _queues = [];

    /// <summary>
    /// Whether new mounts may have their requests through rings: Linux 6.14 and newer, when root has written Y to
    /// /sys/module/fuse/parameters/enable_uring.
    /// </summary>
    public static bool IsUringEnabled
    {
        get
        {
            try
            {
                return File.ReadAllText(EnablePath).StartsWith('Y');
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
            {
                return false;
            }
        }
    }

    /// <summary>Whether requests come through rings. Known after <see cref="Start"/>.</summary>
    public bool IsUring { get; private set; }

    /// <summary>Why requests do not come through rings although that was asked for; null if they do, or it was not.</summary>
    public string? UringRefusal { get; private set; }

    /// <summary>How requests come, in a few words.</summary>
    public string Transport => IsUring
        ? $"io_uring ({_layout!.Queues} queues of {_layout.Depth} entries on {_layout.Rings} rings)"
        : "device";

    private bool IsUringAgreed => _layout is not null && Limits.Flags.HasFlag(FuseInitFlags.OverIoUring);

    /// <summary>A ring that entries were given to will not serve them any more.</summary>
    internal void RingFailed(Exception fault)
    {
        _ = Interlocked.CompareExchange(ref _fault, fault, null);
        _ = _ended.Set();
    }

    private UringLayout? PlanUring()
    {
        if (_options.Rings is not { Loops.Count: > 0 } rings)
        {
            return null;
        }

        try
        {
            return new UringLayout(
                rings.Loops.Count, _options.MaxRequestBytes, ProcessorSet.Possible().Count, ProcessorSet.Online());
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or FormatException)
        {
            UringRefusal = $"the processors of the machine are not known: {exception.Message}";
            return null;
        }
    }

    /// <summary>Makes the request objects. False when there is no memory for rings, which are not wanted then.</summary>
    private bool TryMakePool(FuseLimits limits)
    {
        int dataBytes = (int)Math.Max(limits.MaxWriteBytes, limits.MaxReadBytes);
        if (!limits.Flags.HasFlag(FuseInitFlags.OverIoUring))
        {
            UringRefusal ??= _options.Rings is null ? null : "the kernel does not offer it";
            _pool = new FuseRequestPool(dataBytes, _replies);
            return true;
        }

        try
        {
            // The kernel wants room for max_pages in every entry, and for its smallest read.
            dataBytes = Math.Max(Math.Max(dataBytes, _options.MaxRequestBytes), FuseAbi.MinimumReadBytes);
            int bound = FuseRequestPool.DefaultBound + _layout!.Entries;
            _pool = new FuseRequestPool(dataBytes, _replies, bound, isShared: true);
            return true;
        }
        catch (LinuxException exception)
        {
            UringRefusal = exception.Message;
            _layout = null;
            return false;
        }
    }

    /// <summary>Gives the entries to the kernel, which lets nobody in before it has one for each queue.</summary>
    private void RegisterUring(FuseDispatcher dispatcher)
    {
        _queues =
        [
            // More rings than queues: the others only drive their connections.
            .. _options.Rings!.Loops.Where(loop => _layout!.QueuesOf(loop.Index).Any()).Select(
                loop => new UringQueues(this, loop, _mount.Device.Fd, dispatcher, _pool!, _warnings, _layout!)),
        ];
        LinuxException?[] refusals =
            Task.WhenAll(Array.ConvertAll(_queues, queues => queues.RegisterAsync())).GetAwaiter().GetResult();
        LinuxException? refusal = Array.Find(refusals, refusal => refusal is not null);
        IsUring = refusal is null;
        if (IsUring)
        {
            // The kernel wakes a ring's thread on the processor of the program that asks: without a hop to another one.
            Array.ForEach(_queues, queues => queues.Loop.RunOn([.. _layout!.QueuesOf(queues.Loop.Index)]));
        }

        UringRefusal = refusal?.Message;
    }
}
