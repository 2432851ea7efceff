using Fuse;
using Linux;
using Nbd;

namespace NbdFuse;

/// <summary>
/// An export of a server's list. It is connected to when it is opened first, and left when it is closed last.
/// </summary>
internal sealed partial class ListedExportNode : FileNode
{
    private readonly ExportConnector _connector;
    private readonly FileAttributesInMemory _attributes;

    // Guards the fields that follow.
    private readonly Lock _gate = new();
    private int _opens;
    private Task<ConnectedExport>? _connection;
    private Task _leaving = Task.CompletedTask;

    // What the list told last.
    private NbdListedExport _listed;

    // Not null while somebody has it open, so that the data path need not look at the task.
    private ExportFile? _file;

    internal ListedExportNode(ulong number, NbdListedExport listed, ExportConnector connector)
        : base(number)
    {
        (_listed, _connector) = (listed, connector);
        _attributes = connector.AttributesOf(listed);
    }

    /// <summary>Name of the export.</summary>
    internal string ExportName => Volatile.Read(ref _listed).Name;

    /// <summary>Whether nothing may be written, as far as is known.</summary>
    internal bool IsReadOnly => _connector.IsReadOnly(Volatile.Read(ref _listed).Export);

    /// <inheritdoc/>
    internal override bool IsOpen
    {
        get
        {
            lock (_gate)
            {
                return _opens > 0;
            }
        }
    }

    /// <inheritdoc/>
    internal override ExportFile? Export => Volatile.Read(ref _file);

    /// <inheritdoc/>
    internal override ulong SizeBytes =>
        Volatile.Read(ref _file)?.SizeBytes ?? (ulong)(Volatile.Read(ref _listed).Export?.SizeBytes ?? 0);

    /// <summary>Notes what a newer list tells.</summary>
    internal void Update(NbdListedExport listed) => Volatile.Write(ref _listed, listed);

    /// <inheritdoc/>
    internal override FuseAttr Attributes()
    {
        FuseAttr attr = Volatile.Read(ref _file)?.Attributes() ?? new FuseAttr
        {
            LinkCount = 1,
            Size = SizeBytes,
            Blocks = (SizeBytes + 511) / 512,
            BlockSize = 4096,
        };
        attr.Inode = Number;
        _attributes.CopyTo(ref attr);
        return attr;
    }

    /// <inheritdoc/>
    internal override Errno TryChange(in FuseSetAttrIn attr)
    {
        // Without the export only its listed size is known, which an O_TRUNC need not know.
        Errno refused = !attr.Valid.HasFlag(FuseSetAttrValid.Size) ? Errno.None
            : Volatile.Read(ref _file) is ExportFile file ? file.RefuseSize(attr, file.SizeBytes)
            : attr.Size == SizeBytes || attr.Size == 0 ? Errno.None
            : attr.Size > SizeBytes ? Errno.EFBIG
            : Errno.EINVAL;
        if (refused == Errno.None)
        {
            _attributes.Change(attr);
        }

        return refused;
    }

    /// <inheritdoc/>
    internal override void Open(FuseRequest request, uint flags)
    {
        Task<ConnectedExport> connection;
        lock (_gate)
        {
            _opens++;
            connection = _connection ??= _connector.Connect(ExportName, _leaving);
        }

        OpenOnceConnected(request, flags, connection);
    }

    /// <inheritdoc/>
    internal override void Release(FuseRequest request, ulong handle)
    {
        Volatile.Read(ref _file)?.EndUse(handle);
        CloseOne();
        request.ReplyEmpty();
    }

    private async void OpenOnceConnected(FuseRequest request, uint flags, Task<ConnectedExport> connection)
    {
        Errno refused;
        ConnectedExport? connected = null;
        try
        {
            connected = await connection.ConfigureAwait(false);
            Volatile.Write(ref _file, connected.File);

            // Who was interrupted sends no RELEASE.
            refused = request.IsPending ? connected.File.RefuseOpen(flags) : Errno.EINTR;
        }
        catch (NbdException exception)
        {
            refused = FileErrno.From(exception.Errno);
        }
        catch (LinuxException exception)
        {
            refused = FileErrno.From(exception.Errno);
        }

        if (refused == Errno.None)
        {
            connected!.File.Open(request, flags);
            return;
        }

        CloseOne();
        request.ReplyError(refused);
    }

    private void CloseOne()
    {
        lock (_gate)
        {
            if (--_opens > 0)
            {
                return;
            }

            if (_connection is Task<ConnectedExport> connection)
            {
                _leaving = _connector.Leave(connection);
            }

            Volatile.Write(ref _file, null);
            _connection = null;
        }
    }
}
