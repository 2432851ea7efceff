namespace Nbd;

/// <content>The export for code that wants a stream.</content>
public sealed partial class NbdClient
{
    /// <summary>
    /// Shows the export as a stream of <see cref="SizeBytes"/>: it can seek, keeps its length, and can be written unless
    /// the export is read-only. Reading at the end gives 0 bytes; writing past it fails with ENOSPC and writes nothing.
    /// Nothing is buffered: many small reads want a <see cref="BufferedStream"/> around it. Flushing sends FLUSH. A
    /// stream is for one thread at a time; several streams of one client may be used together.
    /// </summary>
    /// <param name="leaveOpen">Whether the client stays connected when the stream is disposed.</param>
    public Stream AsStream(bool leaveOpen = false) => new ExportStream(this, leaveOpen);
}
