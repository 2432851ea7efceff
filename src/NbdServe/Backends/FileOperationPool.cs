using System.Collections.Concurrent;
using System.Threading.Tasks.Sources;

namespace NbdServe.Backends;

/// <summary>Calls that wait for the disk, made on the thread pool without an allocation for each. Thread-safe.</summary>
internal sealed class FileOperationPool(OpenFile file)
{
    private readonly ConcurrentQueue<Operation> _idle = new();

    internal ValueTask ReadAsync(long offset, Memory<byte> destination) => Take().Start(offset, destination, default, false);

    internal ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, bool isDurable) =>
        Take().Start(offset, default, source, isDurable);

    internal ValueTask FlushAsync() => Take().Start(0, default, default, true);

    /// <summary>How many operations wait to be used again.</summary>
    internal int IdleCount => _idle.Count;

    private Operation Take() => _idle.TryDequeue(out Operation? operation) ? operation : new Operation(this);

    /// <summary>A read, a write, a flush, or a write and a flush. It is given back when its result was taken.</summary>
    private sealed class Operation(FileOperationPool pool) : IThreadPoolWorkItem, IValueTaskSource
    {
        // Runs continuations on the thread that completes it, which is one of the pool.
        private ManualResetValueTaskSourceCore<bool> _completion;
        private long _offset;
        private Memory<byte> _destination;
        private ReadOnlyMemory<byte> _source;
        private bool _flushes;

        public void Execute()
        {
            Exception? failure = null;
            try
            {
                if (!_destination.IsEmpty)
                {
                    pool.File.Read(_offset, _destination.Span);
                }

                if (!_source.IsEmpty)
                {
                    pool.File.Write(_offset, _source.Span);
                }

                if (_flushes)
                {
                    pool.File.Flush();
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
                _source = default;
                pool._idle.Enqueue(this);
            }
        }

        public ValueTaskSourceStatus GetStatus(short token) => _completion.GetStatus(token);

        public void OnCompleted(
            Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
            _completion.OnCompleted(continuation, state, token, flags);

        internal ValueTask Start(long offset, Memory<byte> destination, ReadOnlyMemory<byte> source, bool flushes)
        {
            (_offset, _destination, _source, _flushes) = (offset, destination, source, flushes);
            short token = _completion.Version;
            ThreadPool.UnsafeQueueUserWorkItem(this, preferLocal: false);
            return new ValueTask(this, token);
        }
    }

    private OpenFile File { get; } = file;
}
