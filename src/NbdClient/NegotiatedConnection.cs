namespace Nbd;

/// <summary>What the handshake of one connection agreed on; its socket is in the transmission phase.</summary>
/// <param name="Export">The export that the connection serves.</param>
/// <param name="StructuredReplies">Whether replies come in chunks: structured ones, or extended ones.</param>
internal sealed record NegotiatedConnection(NbdExport Export, bool StructuredReplies)
{
    /// <summary>The ids that this connection has for <see cref="NbdExport.MetaContexts"/>, in their order.</summary>
    internal uint[] ContextIds { get; init; } = [];
}
