using Nbd;

namespace NbdFuse;

/// <summary>An export that is open, and its connections.</summary>
internal sealed record ConnectedExport(ExportFile File, NbdConnectionPool Pool);
