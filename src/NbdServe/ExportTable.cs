using Nbd;

namespace NbdServe;

/// <summary>All exports by name. Thread-safe but for <see cref="Dispose"/>.</summary>
internal sealed class ExportTable : IDisposable
{
    private readonly List<Export> _exports = [];
    private readonly Dictionary<string, Export> _byName = new(StringComparer.Ordinal);

    /// <exception cref="Linux.LinuxException">A file cannot be opened or created. Nothing is left then.</exception>
    internal ExportTable(IReadOnlyList<ExportArguments> arguments, bool isReadOnly)
    {
        try
        {
            foreach (ExportArguments export in arguments)
            {
                _exports.Add(Export.Create(export, isReadOnly));
                _byName.Add(export.Name, _exports[^1]);
            }
        }
        catch
        {
            Dispose();
            throw;
        }

        // The empty name asks for the default export (proto.md, NBD_OPT_EXPORT_NAME).
        _byName.TryAdd("", _exports[0]);
    }

    /// <summary>Name of the default export.</summary>
    internal string DefaultName => _exports[0].Name;

    internal NbdBackend? Open(string name) => _byName.GetValueOrDefault(name)?.Open();

    internal IReadOnlyList<NbdExportDescription> List() =>
        [.. _exports.Select(export => new NbdExportDescription(export.Name, export.Arguments.Backend.Kind))];

    internal void Keep() => _exports.ForEach(export => export.Keep());

    internal void Flush() => _exports.ForEach(export => export.Flush());

    public void Dispose() => _exports.ForEach(export => export.Dispose());
}
