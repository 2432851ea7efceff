using System.Collections.Concurrent;
using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// A directory with a file for each export that a server lists. The list is asked for again when names are looked at
/// and it is older than <see cref="s_listTime"/>.
/// </summary>
#pragma warning disable CA1001 // A semaphore without a wait handle holds nothing, and who waits for it may outlive the mount.
internal sealed class ExportsTree : FileTree
#pragma warning restore CA1001
{
    private static readonly TimeSpan s_listTime = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_kernelTime = TimeSpan.FromSeconds(1);

    private readonly ExportServer _server;
    private readonly ExportConnector _connector;
    private readonly ExportFileOptions _options;
    private readonly Action<string> _warn;
    private readonly DirectoryNode _root;

    // Of the last list, and exports that are gone from it as long as somebody has them open.
    private readonly ConcurrentDictionary<ulong, TreeNode> _nodes = new();

    // One refresh at a time. Guards the fields that follow.
    private readonly SemaphoreSlim _refreshing = new(1);
    private readonly Dictionary<string, ListedExportNode> _exports = new(StringComparer.Ordinal);
    private readonly Dictionary<string, DirectoryNode> _directories = new(StringComparer.Ordinal);
    private ulong _lastNumber = RootNumber;
    private string? _failure;

    private long _listed;

    private ExportsTree(
        ExportServer server, ExportConnector connector, ExportFileOptions options, Action<string> warn)
    {
        (_server, _connector, _options, _warn) = (server, connector, options, warn);
        _root = new DirectoryNode(RootNumber, DirectoryAttributes(options));
        _nodes[RootNumber] = _root;
    }

    /// <inheritdoc/>
    internal override bool IsStale =>
        Environment.TickCount64 - Volatile.Read(ref _listed) > s_listTime.TotalMilliseconds;

    /// <inheritdoc/>
    internal override TimeSpan EntryTimeout => s_kernelTime;

    /// <inheritdoc/>
    internal override TimeSpan AttrTimeout => s_kernelTime;

    /// <inheritdoc/>
    internal override ulong SizeBytes => Sum(_ => true);

    /// <inheritdoc/>
    internal override ulong FreeBytes => Sum(export => !export.IsReadOnly);

    /// <inheritdoc/>
    internal override int NodeCount => _nodes.Count;

    /// <summary>Asks for the first list.</summary>
    /// <exception cref="NbdException">The server cannot be reached or does not tell.</exception>
    internal static async Task<ExportsTree> Create(
        ExportServer server,
        ExportConnector connector,
        ExportFileOptions options,
        Action<string> warn,
        CancellationToken cancellationToken)
    {
        ExportsTree tree = new(server, connector, options, warn);
        tree.Show(await server.List(cancellationToken).ConfigureAwait(false));
        return tree;
    }

    /// <inheritdoc/>
    internal override TreeNode? Find(ulong number) => _nodes.GetValueOrDefault(number);

    /// <inheritdoc/>
    internal override async Task Refresh()
    {
        await _refreshing.WaitAsync().ConfigureAwait(false);
        try
        {
            if (IsStale)
            {
                Show(await _server.List(CancellationToken.None).ConfigureAwait(false));
                _failure = null;
            }
        }
        catch (Exception exception) when (exception is NbdException or LinuxException)
        {
            // Not again at once, or each look at a name would wait for the server that does not answer.
            Volatile.Write(ref _listed, Environment.TickCount64);
            if (exception.Message != _failure)
            {
                _failure = exception.Message;
                _warn($"list the exports: {exception.Message}; the directory stays as it was");
            }
        }
        finally
        {
            _ = _refreshing.Release();
        }
    }

    private ulong Sum(Predicate<ListedExportNode> counts)
    {
        ulong sum = 0;
        foreach (TreeNode node in _nodes.Values)
        {
            ulong size = node is ListedExportNode export && counts(export) ? export.SizeBytes : 0;
            sum = size > ulong.MaxValue - sum ? ulong.MaxValue : sum + size;
        }

        return sum;
    }

    private void Show(IReadOnlyList<NbdListedExport> list)
    {
        Dictionary<string, NbdListedExport> listed = new(StringComparer.Ordinal);
        foreach (NbdListedExport export in list)
        {
            _ = listed.TryAdd(export.Name, export);
        }

        Dictionary<string, List<(string Name, TreeNode Node)>> entries = new(StringComparer.Ordinal) { [""] = [] };
        foreach ((string exportName, string[] path) in SafeNames.Choose([.. listed.Keys]))
        {
            string directory = "";
            for (int depth = 0; depth < path.Length - 1; depth++)
            {
                directory = AddDirectory(directory, path[depth], entries);
            }

            entries[directory].Add((path[^1], ExportNode(listed[exportName])));
        }

        foreach ((string path, List<(string Name, TreeNode Node)> names) in entries)
        {
            DirectoryOf(path).SetEntries(names);
        }

        DropTheRest(listed, entries);
        Volatile.Write(ref _listed, Environment.TickCount64);
    }

    private string AddDirectory(
        string parent, string name, Dictionary<string, List<(string Name, TreeNode Node)>> entries)
    {
        string path = $"{parent}/{name}";
        if (!entries.ContainsKey(path))
        {
            entries[path] = [];
            if (!_directories.TryGetValue(path, out DirectoryNode? directory))
            {
                directory = new DirectoryNode(++_lastNumber, DirectoryAttributes(_options));
                _directories[path] = directory;
                _nodes[directory.Number] = directory;
            }

            entries[parent].Add((name, directory));
        }

        return path;
    }

    private ListedExportNode ExportNode(NbdListedExport listed)
    {
        if (_exports.TryGetValue(listed.Name, out ListedExportNode? node))
        {
            node.Update(listed);
            return node;
        }

        node = new ListedExportNode(++_lastNumber, listed, _connector);
        _exports[listed.Name] = node;
        _nodes[node.Number] = node;
        return node;
    }

    private DirectoryNode DirectoryOf(string path) => path.Length == 0 ? _root : _directories[path];

    private void DropTheRest(
        Dictionary<string, NbdListedExport> listed, Dictionary<string, List<(string Name, TreeNode Node)>> entries)
    {
        foreach ((string path, DirectoryNode directory) in _directories.Where(d => !entries.ContainsKey(d.Key)).ToList())
        {
            _ = _directories.Remove(path);
            _ = _nodes.TryRemove(directory.Number, out _);
        }

        foreach (string exportName in _exports.Keys.Where(name => !listed.ContainsKey(name)).ToList())
        {
            _ = _exports.Remove(exportName);
        }

        foreach (ListedExportNode node in _nodes.Values.OfType<ListedExportNode>())
        {
            if (!node.IsOpen && _exports.GetValueOrDefault(node.ExportName) != node)
            {
                _ = _nodes.TryRemove(node.Number, out _);
            }
        }
    }
}
