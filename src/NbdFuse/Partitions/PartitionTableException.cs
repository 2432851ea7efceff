namespace NbdFuse;

/// <summary>There is a partition table, and it makes no sense.</summary>
internal sealed class PartitionTableException(string message) : Exception(message);
