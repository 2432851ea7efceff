using System.Diagnostics.CodeAnalysis;

namespace Nbd;

/// <summary>An NBD URI (uri.md of the NBD specification), taken apart. Immutable.</summary>
public sealed class NbdUri
{
    private NbdUri(NbdEndpoint endpoint, string exportName, IReadOnlyList<string> warnings)
    {
        Endpoint = endpoint;
        ExportName = exportName;
        Warnings = warnings;
    }

    /// <summary>Where the server is.</summary>
    public NbdEndpoint Endpoint { get; }

    /// <summary>Name of the export, decoded; "" is the server's default export.</summary>
    public string ExportName { get; }

    /// <summary>What the URI holds that has no effect, one printable sentence each; usually empty.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>Takes a URI apart.</summary>
    /// <exception cref="NbdException">It is not an NBD URI (EINVAL) or needs what is not supported (EOPNOTSUPP).</exception>
    public static NbdUri Parse(string uri) => throw new NotImplementedException();

    /// <summary>Takes a URI apart; when that fails, <paramref name="error"/> says why.</summary>
    public static bool TryParse(string uri, [NotNullWhen(true)] out NbdUri? result, [NotNullWhen(false)] out string? error) =>
        throw new NotImplementedException();

    /// <summary>The URI in its shortest form, without user name and query keys that carry secrets.</summary>
    public override string ToString() => Endpoint.FormatUri(ExportName);
}
