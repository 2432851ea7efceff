namespace NbdFuse;

/// <summary>What is known of a range of the export.</summary>
internal enum ExtentKind : byte
{
    /// <summary>Nothing: the server has to be asked.</summary>
    Unknown,

    /// <summary>It may hold anything.</summary>
    Data,

    /// <summary>It reads as zeroes.</summary>
    Hole,
}
