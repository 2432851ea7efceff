namespace NbdFuse;

/// <summary>Where a range of a file of the mount lies.</summary>
/// <param name="Export">The export.</param>
/// <param name="Offset">First byte, in the export.</param>
/// <param name="Length">Bytes.</param>
internal readonly record struct ExportRange(ExportFile Export, ulong Offset, ulong Length)
{
    /// <summary>Whether both have a byte in common.</summary>
    internal bool Overlaps(in ExportRange other) =>
        Export == other.Export && Offset < other.Offset + other.Length && other.Offset < Offset + Length;
}
