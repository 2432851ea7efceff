namespace UnitTests.Nbd;

/// <summary>A command that the client sent.</summary>
internal sealed record FakeRequest(int Flags, int Type, ulong Cookie, ulong Offset, uint Length)
{
    internal byte[] Payload { get; init; } = [];

    /// <summary>Whether it came, and has to be answered, with extended headers.</summary>
    internal bool IsExtended { get; init; }

    /// <summary>All 64 bits of the length.</summary>
    internal ulong LongLength { get; init; }
}
