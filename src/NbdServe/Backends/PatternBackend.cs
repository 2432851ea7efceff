using System.Buffers.Binary;
using Nbd;

namespace NbdServe.Backends;

/// <summary>Each eight bytes hold their own offset, big-endian. Read-only. Thread-safe: it has no state.</summary>
internal sealed class PatternBackend(long sizeBytes) : NbdBackend
{
    private const int WordBytes = sizeof(long);

    public override long SizeBytes => sizeBytes;

    public override NbdBackendCapabilities Capabilities =>
        NbdBackendCapabilities.ReadOnly | NbdBackendCapabilities.Cache | NbdBackendCapabilities.MultiConn;

    public override string Description => "pattern";

    public override ValueTask ReadAsync(
        long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        Span<byte> rest = destination.Span;
        int head = (int)(offset % WordBytes);
        if (head > 0)
        {
            int length = PartOfWord(offset - head, head, rest);
            rest = rest[length..];
            offset += length;
        }

        for (; rest.Length >= WordBytes; rest = rest[WordBytes..], offset += WordBytes)
        {
            BinaryPrimitives.WriteInt64BigEndian(rest, offset);
        }

        if (rest.Length > 0)
        {
            PartOfWord(offset, 0, rest);
        }

        return ValueTask.CompletedTask;
    }

    /// <returns>Bytes written.</returns>
    private static int PartOfWord(long word, int start, Span<byte> destination)
    {
        Span<byte> bytes = stackalloc byte[WordBytes];
        BinaryPrimitives.WriteInt64BigEndian(bytes, word);
        int length = Math.Min(WordBytes - start, destination.Length);
        bytes.Slice(start, length).CopyTo(destination);
        return length;
    }
}
