namespace NbdFuse;

/// <summary>A directory with one file in it, or, without a name for it, the file as the root.</summary>
internal sealed class SingleFileTree : FileTree
{
    private const ulong FileNumberInDirectory = 2;

    private readonly ExportFileOptions _options;
    private readonly FileNode _file;
    private readonly uint _blockBytes;
    private readonly DirectoryNode? _directory;

    /// <param name="file">The file.</param>
    /// <param name="options">How it looks.</param>
    internal SingleFileTree(ExportFile file, ExportFileOptions options)
    {
        _options = options;
        _blockBytes = Math.Max(SmallestBlockBytes, file.MinimumBlockBytes);
        if (options.FileName is null)
        {
            _file = new WholeExportNode(RootNumber, file);
            return;
        }

        _file = new WholeExportNode(FileNumberInDirectory, file);
        _directory = new DirectoryNode(RootNumber, DirectoryAttributes(options));
        _directory.SetEntries([(options.FileName, _file)]);
    }

    /// <inheritdoc/>
    internal override TimeSpan EntryTimeout => _options.EntryTimeout;

    /// <inheritdoc/>
    internal override TimeSpan AttrTimeout => _options.AttrTimeout;

    /// <inheritdoc/>
    internal override ulong SizeBytes => _file.SizeBytes;

    /// <inheritdoc/>
    internal override ulong FreeBytes => _options.ReadOnly ? 0 : _file.SizeBytes;

    /// <inheritdoc/>
    internal override uint BlockBytes => _blockBytes;

    /// <inheritdoc/>
    internal override int NodeCount => _directory is null ? 1 : 2;

    /// <inheritdoc/>
    internal override TreeNode? Find(ulong number) =>
        number == _file.Number ? _file
        : number == RootNumber ? _directory
        : null;
}
