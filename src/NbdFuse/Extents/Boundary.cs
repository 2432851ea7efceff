namespace NbdFuse;

/// <summary>Where a run of an <see cref="ExtentMap"/> begins. It ends where the next begins.</summary>
internal readonly record struct Boundary(ulong Start, ExtentKind Kind);

/// <summary>Where a boundary stands in a <see cref="BoundaryList"/>: until the next change of it.</summary>
internal readonly record struct BoundaryPlace(int Chunk, int Index);
