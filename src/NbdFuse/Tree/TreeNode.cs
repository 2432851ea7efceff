using Fuse;
using Linux;

namespace NbdFuse;

/// <summary>A directory or a file of the mount. The kernel knows it by its number. Thread-safe.</summary>
/// <param name="number">Its number: never used for another node.</param>
internal abstract class TreeNode(ulong number)
{
    /// <summary>The kernel's name for it; 1 is the root.</summary>
    internal ulong Number { get; } = number;

    /// <summary>What stat(2) shows.</summary>
    internal abstract FuseAttr Attributes();

    /// <summary>Changes attributes.</summary>
    /// <returns>None, or why not. The caller answers.</returns>
    internal abstract Errno TryChange(in FuseSetAttrIn attr);
}
