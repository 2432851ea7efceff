namespace Nbd;

/// <summary>An export in the list of a server. Immutable.</summary>
/// <param name="Name">
/// The name to connect with, as the server sent it: not fit to be printed as it is. "" is the default export.
/// </param>
/// <param name="Description">The server's text about it, made printable; "" if there is none.</param>
public sealed record NbdListedExport(string Name, string Description)
{
    /// <summary>
    /// What INFO told, with all <see cref="NbdExport.MetaContexts"/> that can be asked for; null if that was not
    /// wanted, or if the server refused (see <see cref="Refusal"/>).
    /// </summary>
    public NbdExport? Export { get; init; }

    /// <summary>Why there is no <see cref="Export"/> although it was wanted; null otherwise.</summary>
    public NbdException? Refusal { get; init; }
}
