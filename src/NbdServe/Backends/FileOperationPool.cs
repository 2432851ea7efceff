using System.Collections.Concurrent;
using System.Threading.Tasks.Sources;

namespace NbdServe.Backends;

/// <summary>Calls that wait for the disk, made on the thread pool without an allocation for each. Thread-safe.</summary>
internal sealed class FileOperationPool(OpenFile file)
{
    private readonly ConcurrentQueue<Operation> _idle = new();

    internal ValueTask ReadAsync(long offset, Memory<byte> destination) => Take().Start(offset, destination);

    internal ValueTask FlushAsync() => Take().Start(0, default);

    /// <summary>How many operations wait to be used again.</summary>
    internal int IdleCount => _idle.Count;

    private Operation Take() => _idle.TryDequeue(out Operation? operation) ? operation : new Operation(this);

    /// <summary>A read or, without a destination, a flush. It is given back when its result was taken.</summary>
    private sealed class Operation(FileOperationPool pool) : IThreadPoolWorkItem, IValueTaskSource
    {
        // Runs continuations on the thread that completes it, which is one of the pool.
        private ManualResetValueTaskSourceCore<bool> _completion;
        private long _offset;
        private Memory<byte> _destination;

        public void Execute()
        {
            Exception? failure = null;
            try
            {
                if (_destination.IsEmpty)
                {
                    pool.File.Flush();
                }
                else
                {
                    pool.File.Read(_offset, _destination.Span);
                }
            }
            catch (Exception exception)
            {
                failure = exception;
            }

            // Runs the continuation, after which this object may be in use again.
            if (failure is null)
            {
                _completion.SetResult(true);
            }
            else
            {
                _completion.SetException(failure);
            }
        }

        public void GetResult(short token)
        {
            try
            {
                _completion.GetResult(token);
            }
            finally
            {
                _completion.Reset();
                _destination = default;
                pool._idle.Enqueue(this);
            }
        }

        public ValueTaskSourceStatus GetStatus(short token) => _completion.GetStatus(token);

        public void OnCompleted(
            Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
            _completion.OnCompleted(continuation, state, token, flags);

        internal ValueTask Start(long offset, Memory<byte> destination)
        {
            (_offset, _destination) = (offset, destination);
            short token = _completion.Version;
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
            return new ValueTask(this, token);
        }
    }

    private OpenFile File { get; } = file;
}
