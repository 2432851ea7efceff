namespace Linux;

/// <summary>Uses a <see cref="RingLoop"/>. All methods are called on the loop's thread, and must not block.</summary>
public interface IRingClient
{
    /// <summary>Something that was prepared for this client is done.</summary>
    /// <param name="tag">The number that it was prepared with.</param>
    /// <param name="result">What it returned: negative for an error number.</param>
    void Completed(uint tag, int result);

    /// <summary>The thread is about to hand over what was prepared and to wait: the last chance to add to it.</summary>
    void BeforeWait();

    /// <summary>The loop has ended before its time: nothing will be completed any more.</summary>
    void LoopFailed(Exception reason);
}

/// <summary>Something to do on a loop's thread.</summary>
public interface IRingWork
{
    /// <summary>The loop's own: work is a link of its list, so that posting allocates nothing.</summary>
    IRingWork? NextPosted { get; set; }

    /// <summary>Called once for each <see cref="RingLoop.Post"/>, on the loop's thread. It must not block.</summary>
    void Run();
}
