namespace NbdFuse;

/// <summary>A range of an <see cref="ExtentMap"/>, of one kind from end to end.</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">The byte after the last.</param>
/// <param name="Kind">What is known of it.</param>
internal readonly record struct ExtentRun(ulong Start, ulong End, ExtentKind Kind)
{
    /// <summary>Bytes.</summary>
    internal ulong Length => End - Start;
}
