using System.Collections.Concurrent;
using System.Globalization;
using Tmds.Linux;

namespace NbdFuse;

/// <summary>
/// A directory with a disk and its partitions in it: "disk", "disk.p1", ... The table is read again when somebody
/// writes to where it lies.
/// </summary>
#pragma warning disable CA1001 // A semaphore without a wait handle holds nothing, and who waits for it may outlive the mount.
internal sealed class PartitionedTree : FileTree
#pragma warning restore CA1001
{
    private const ulong DiskNumber = 2;

    // A write to the table is told of when it is sent. For this time after it the table is read for every look at the
    // names, so that an answer that is late is not missed.
    private static readonly TimeSpan s_writeTime = TimeSpan.FromSeconds(5);

    // A write to one file changes what is allocated of another, of which the kernel does not know.
    private static readonly TimeSpan s_longestAttrTimeout = TimeSpan.FromSeconds(1);

    private readonly ExportFile _file;
    private readonly ExportFileOptions _options;
    private readonly Action<string> _warn;
    private readonly DirectoryNode _root;
    private readonly WholeExportNode _disk;

    // Also partitions that are gone, for those who have them open.
    private readonly ConcurrentDictionary<ulong, PartitionNode> _partitions = new();

    // One refresh at a time. Guards the fields that follow.
    private readonly SemaphoreSlim _refreshing = new(1);
    private ulong _lastNumber = DiskNumber;
    private string? _problem;

    // Replaced as a whole by a refresh.
    private PartitionTable _table = new([], [(0, ulong.MaxValue)], null);
    private long _writes = 1;
    private long _writesSeen;
    private long _lastWrite = Environment.TickCount64;

    /// <param name="file">The disk.</param>
    /// <param name="options">How it looks; it has a name.</param>
    /// <param name="warn">Told of a table that is broken.</param>
    internal PartitionedTree(ExportFile file, ExportFileOptions options, Action<string> warn)
    {
        (_file, _options, _warn) = (file, options, warn);
        _root = new DirectoryNode(RootNumber, DirectoryAttributes(options));
        _disk = new WholeExportNode(DiskNumber, file) { Changing = OnChanging };
        _root.SetEntries([(options.FileName!, _disk)]);
    }

    /// <inheritdoc/>
    internal override bool IsStale => Volatile.Read(ref _writes) != Volatile.Read(ref _writesSeen)
        || Environment.TickCount64 - Volatile.Read(ref _lastWrite) < s_writeTime.TotalMilliseconds;

    /// <summary>Names come and go with the table.</summary>
    internal override TimeSpan EntryTimeout => TimeSpan.Zero;

    /// <inheritdoc/>
    internal override TimeSpan AttrTimeout =>
        _options.AttrTimeout < s_longestAttrTimeout ? _options.AttrTimeout : s_longestAttrTimeout;

    /// <inheritdoc/>
    internal override ulong SizeBytes => _file.SizeBytes;

    /// <inheritdoc/>
    internal override ulong FreeBytes => _options.ReadOnly ? 0 : _file.SizeBytes;

    /// <inheritdoc/>
    internal override uint BlockBytes => Math.Max(SmallestBlockBytes, _file.MinimumBlockBytes);

    /// <inheritdoc/>
    internal override int NodeCount => 1 + _root.Entries.Length;

    /// <inheritdoc/>
    internal override TreeNode? Find(ulong number) =>
        number == DiskNumber ? _disk
        : number == RootNumber ? _root
        : _partitions.GetValueOrDefault(number);

    /// <inheritdoc/>
    internal override async Task Refresh()
    {
        await _refreshing.WaitAsync().ConfigureAwait(false);
        try
        {
            if (IsStale)
            {
                long writes = Volatile.Read(ref _writes);
                PartitionTable table = await PartitionTable
                    .Read(new TableSectors(_file.SizeBytes, _file.ReadBytes)).ConfigureAwait(false);
                Show(table);
                Volatile.Write(ref _writesSeen, writes);
            }
        }
        finally
        {
            _ = _refreshing.Release();
        }
    }

    private void Show(PartitionTable table)
    {
        if (table.Problem is not null && table.Problem != _problem)
        {
            _warn($"the partition table is broken, so there are no partitions: {table.Problem}");
        }

        _problem = table.Problem;
        List<(string Name, TreeNode Node)> entries = [(_options.FileName!, _disk)];
        foreach (Partition partition in table.Partitions)
        {
            // The same range under the same name is the same file.
            PartitionNode node = _partitions.Values.FirstOrDefault(node => node.Partition == partition)
                ?? Add(partition);
            entries.Add((
                string.Create(CultureInfo.InvariantCulture, $"{_options.FileName}.p{partition.Number}"), node));
        }

        Volatile.Write(ref _table, table);
        _root.SetEntries(entries);
        foreach (PartitionNode node in _partitions.Values)
        {
            if (!node.IsOpen && !table.Partitions.Contains(node.Partition))
            {
                _ = _partitions.TryRemove(node.Number, out _);
            }
        }
    }

    private PartitionNode Add(Partition partition)
    {
        FileAttributesInMemory attributes = new((uint)LibC.S_IFREG | _options.FileMode, _options.UserId, _options.GroupId);
        PartitionNode node = new(++_lastNumber, partition, _file, attributes) { Changing = OnChanging };
        _partitions[node.Number] = node;
        return node;
    }

    private void OnChanging(ulong start, ulong length)
    {
        ulong end = start + length;
        foreach ((ulong Start, ulong End) sectors in Volatile.Read(ref _table).Sectors)
        {
            if (start < sectors.End && end > sectors.Start)
            {
                Volatile.Write(ref _lastWrite, Environment.TickCount64);
                _ = Interlocked.Increment(ref _writes);
                return;
            }
        }
    }
}
