namespace NbdFuse;

/// <summary>A file of the mount as a range of its export.</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">The byte after the last.</param>
/// <param name="WriteBack">See <see cref="FileNode.WriteBack"/>: in bytes of the file.</param>
internal readonly record struct FilePart(ulong Start, ulong End, Func<ulong, ulong, Task<bool>>? WriteBack);
