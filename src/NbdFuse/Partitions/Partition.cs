namespace NbdFuse;

/// <summary>A partition of a disk.</summary>
/// <param name="Number">As Linux numbers them: from 1; logical partitions of an MBR from 5.</param>
/// <param name="Start">First byte.</param>
/// <param name="Length">Bytes.</param>
internal readonly record struct Partition(int Number, ulong Start, ulong Length);
