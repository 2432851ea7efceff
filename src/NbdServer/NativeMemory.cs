using System.Buffers;
using Linux;

namespace Nbd;

/// <summary>
/// Page-aligned native memory that backends see as <see cref="Memory{T}"/>. Has one owner at a time, who disposes it
/// only when no backend holds a part of it.
/// </summary>
internal sealed unsafe class NativeMemory : MemoryManager<byte>
{
    private readonly NativeBuffer _buffer;

    public NativeMemory(int lengthBytes)
    {
        _buffer = new NativeBuffer(lengthBytes);
        // Made once: a slice of it costs nothing.
        Whole = CreateMemory(_buffer.Length);
    }

    public Memory<byte> Whole { get; }

    public byte* Start => _buffer.Start;

    public int Length => _buffer.Length;

    public override Span<byte> GetSpan() => new(_buffer.Start, _buffer.Length);

    public override MemoryHandle Pin(int elementIndex = 0) => new(_buffer.Start + elementIndex);

    public override void Unpin()
    {
    }

    protected override void Dispose(bool disposing) => _buffer.Dispose();
}
