namespace Nbd;

/// <summary>What the handshake of one connection agreed on; its socket is in the transmission phase.</summary>
/// <param name="Export">The export that the connection serves.</param>
/// <param name="StructuredReplies">Whether READ is answered by structured replies.</param>
internal sealed record NegotiatedConnection(NbdExport Export, bool StructuredReplies);
