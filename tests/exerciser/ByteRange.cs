namespace Exerciser;

/// <summary>A part of the file, in bytes. It may go beyond the end.</summary>
internal readonly record struct ByteRange(long Offset, int Length)
{
    public long End => Offset + Length;

    /// <summary>How many of its bytes are in a file of <paramref name="sizeBytes"/>.</summary>
    public int Within(long sizeBytes) => (int)Math.Clamp(sizeBytes - Offset, 0, Length);

    public bool Has(long offset) => offset >= Offset && offset < End;

    public override string ToString() => $"0x{Offset:x}+0x{Length:x}";
}
