using Nbd;
using NbdServe.Backends;

namespace NbdServe;

/// <summary>
/// What is served under one name. All connections share what is behind it, which lives until this is disposed.
/// Thread-safe but for <see cref="Dispose"/>.
/// </summary>
internal sealed class Export : IDisposable
{
    private readonly Func<NbdBackend> _open;
    private readonly IDisposable? _content;
    private string? _createdPath;

    private Export(ExportArguments arguments, Func<NbdBackend> open, IDisposable? content = null)
    {
        (Arguments, _open, _content) = (arguments, open, content);
    }

    internal ExportArguments Arguments { get; }

    internal string Name => Arguments.Name;

    /// <summary>Takes what the arguments describe: allocates, or opens and creates the file.</summary>
    /// <exception cref="Linux.LinuxException">The file cannot be opened or created.</exception>
    internal static Export Create(ExportArguments arguments, bool isReadOnly)
    {
        BackendArguments backend = arguments.Backend;
        switch (backend.Kind)
        {
            case "memory":
                SparseMemory memory = new(backend.SizeBytes);
                return new Export(arguments, () => new MemoryBackend(memory), memory);
            case "pattern":
                return new Export(arguments, () => new PatternBackend(backend.SizeBytes));
            case "null":
                return new Export(arguments, () => new NullBackend(backend.SizeBytes));
            case "file":
                return File(arguments, isReadOnly);
            default:
                SparseRandomDisk disk = new(backend.SparseRandom!);
                return new Export(arguments, () => new SparseRandomBackend(disk));
        }
    }

    /// <summary>A backend for one connection.</summary>
    internal NbdBackend Open() => _open();

    /// <summary>The server has started: what was created stays.</summary>
    internal void Keep() => _createdPath = null;

    /// <summary>Puts everything that clients wrote on stable storage.</summary>
    /// <exception cref="Linux.LinuxException">It may not be there.</exception>
    internal void Flush()
    {
        if (_content is OpenFile { IsReadOnly: false } file)
        {
            file.Flush();
        }
    }

    /// <summary>Ends it; no connection may use it any more.</summary>
    public void Dispose()
    {
        _content?.Dispose();
        if (_createdPath is not null)
        {
            System.IO.File.Delete(_createdPath);
        }
    }

    private static Export File(ExportArguments arguments, bool isReadOnly)
    {
        BackendArguments backend = arguments.Backend;
        if (backend.CreateBytes is long size)
        {
            OpenFile.Create(backend.Path, size);
        }

        OpenFile file = OpenFile.Open(backend.Path, isReadOnly);
        FileOperationPool operations = new(file);
        return new Export(arguments, () => new FileBackend(file, operations), file)
        {
            _createdPath = backend.CreateBytes is null ? null : backend.Path,
        };
    }
}
