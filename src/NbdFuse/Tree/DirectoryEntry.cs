namespace NbdFuse;

/// <summary>A name in a directory.</summary>
/// <param name="Name">1 to 255 bytes without NUL and slash.</param>
/// <param name="Node">What it names.</param>
internal readonly record struct DirectoryEntry(byte[] Name, TreeNode Node);
