using System.Buffers.Binary;
using System.Text;
using Nbd.Protocol;

namespace Nbd;

// The options that are about an export.
internal sealed partial class ServerHandshake
{
    /// <summary>The id of base:allocation, the only context.</summary>
    public const uint AllocationContextId = 1;

    private const int MaximumDefaultBlockBytes = 512;

    private static readonly UTF8Encoding s_strictUtf8 = new(false, throwOnInvalidBytes: true);

    private void List(ReadOnlySpan<byte> data)
    {
        if (!RequireNoData(data))
        {
            return;
        }

        if (_options.ListExports is null)
        {
            _replies.AddError(NbdOptionReplyType.ErrorPolicy, "this server does not list its exports");
            return;
        }

        IReadOnlyList<NbdExportDescription> exports;
        try
        {
            exports = Wait(_options.ListExports(_cancellationToken));
        }
        catch (Exception exception) when (exception is not LostClientException)
        {
            _log.Write(PlainText.From($"list the exports: {exception.Message}"));
            _replies.AddError(NbdOptionReplyType.ErrorPlatform, PlainText.From(exception.Message));
            return;
        }

        Span<byte> length = stackalloc byte[sizeof(uint)];
        foreach (NbdExportDescription export in exports)
        {
            byte[] name = Encoding.UTF8.GetBytes(export.Name);
            BinaryPrimitives.WriteUInt32BigEndian(length, (uint)name.Length);
            _replies.Add(
                NbdOptionReplyType.Server,
                [.. length, .. name],
                export.Description is null ? default : Encoding.UTF8.GetBytes(PlainText.From(export.Description)));
        }

        _replies.Add(NbdOptionReplyType.Ack);
    }

    private NegotiatedExport? InfoOrGo(NbdOption option, ReadOnlySpan<byte> data)
    {
        if (!NbdExportRequest.TryDecodeInfo(data, out NbdExportRequest request)
            || !TryDecodeName(request.Name, out string name))
        {
            _replies.AddError(NbdOptionReplyType.ErrorInvalid, "the lengths in the option are impossible");
            return null;
        }

        if (Open(name, out string reason) is not ServedExport export)
        {
            _replies.AddError(NbdOptionReplyType.ErrorUnknown, reason);
            return null;
        }

        Span<byte> info = stackalloc byte[NbdExportInfo.LengthBytes];
        new NbdExportInfo((ulong)export.SizeBytes, export.FlagsFor(_style)).Encode(info);
        AddInfo(NbdInfoType.Export, info);
        bool knowsBlockSizes = false;
        for (int i = 0; i < request.Count; i++)
        {
            NbdInfoType type = (NbdInfoType)BinaryPrimitives.ReadUInt16BigEndian(request.Items[(i * sizeof(ushort))..]);
            // At most once each, however often it was asked for.
            if (IsAmong(type, request.Items[..(i * sizeof(ushort))]))
            {
                continue;
            }

            knowsBlockSizes |= type == NbdInfoType.BlockSize;
            AddInfo(type, export);
        }

        if (option == NbdOption.Go && !knowsBlockSizes && export.BlockSizes.MinimumBytes > MaximumDefaultBlockBytes)
        {
            AddInfo(NbdInfoType.BlockSize, export);
            _replies.AddError(
                NbdOptionReplyType.ErrorBlockSizeRequired,
                $"this export has blocks of {export.BlockSizes.MinimumBytes} bytes");
            return null;
        }

        _replies.Add(NbdOptionReplyType.Ack);
        return option == NbdOption.Go ? Enter(export) : null;
    }

    private static bool IsAmong(NbdInfoType type, ReadOnlySpan<byte> types)
    {
        for (; !types.IsEmpty; types = types[sizeof(ushort)..])
        {
            if ((NbdInfoType)BinaryPrimitives.ReadUInt16BigEndian(types) == type)
            {
                return true;
            }
        }

        return false;
    }

    private void AddInfo(NbdInfoType type, ServedExport export)
    {
        switch (type)
        {
            case NbdInfoType.Name:
                AddInfo(type, Encoding.UTF8.GetBytes(export.Name));
                break;
            case NbdInfoType.Description when export.Description is string description:
                AddInfo(type, Encoding.UTF8.GetBytes(PlainText.From(description)));
                break;
            case NbdInfoType.BlockSize:
                Span<byte> sizes = stackalloc byte[NbdBlockSizeInfo.LengthBytes];
                export.BlockSizes.Encode(sizes);
                AddInfo(type, sizes);
                break;
            default:
                break;
        }
    }

    private void AddInfo(NbdInfoType type, ReadOnlySpan<byte> info)
    {
        Span<byte> wire = stackalloc byte[sizeof(ushort)];
        BinaryPrimitives.WriteUInt16BigEndian(wire, (ushort)type);
        _replies.Add(NbdOptionReplyType.Info, wire, info);
    }

    private void MetaContexts(NbdOption option, ReadOnlySpan<byte> data)
    {
        bool isSet = option == NbdOption.SetMetaContext;
        if (isSet)
        {
            // Whatever comes of it, what was chosen before is gone.
            _allocationOf = null;
        }

        if (isSet && _style == ReplyStyle.Simple)
        {
            _replies.AddError(NbdOptionReplyType.ErrorInvalid, "structured replies come first");
            return;
        }

        if (!NbdExportRequest.TryDecodeMetaContext(data, out NbdExportRequest request)
            || !TryDecodeName(request.Name, out string name))
        {
            _replies.AddError(NbdOptionReplyType.ErrorInvalid, "the lengths in the option are impossible");
            return;
        }

        if (Open(name, out string reason) is null)
        {
            _replies.AddError(NbdOptionReplyType.ErrorUnknown, reason);
            return;
        }

        bool isChosen = request.Count == 0 && !isSet;
        ReadOnlySpan<byte> queries = request.Items;
        while (NbdExportRequest.TryTakeText(ref queries, out ReadOnlySpan<byte> query))
        {
            isChosen |= query.SequenceEqual("base:allocation"u8) || (!isSet && query.SequenceEqual("base:"u8));
        }

        if (isChosen)
        {
            Span<byte> id = stackalloc byte[sizeof(uint)];
            BinaryPrimitives.WriteUInt32BigEndian(id, isSet ? AllocationContextId : 0);
            _replies.Add(NbdOptionReplyType.MetaContext, id, "base:allocation"u8);
            _allocationOf = isSet ? name : _allocationOf;
        }

        _replies.Add(NbdOptionReplyType.Ack);
    }

    private static bool TryDecodeName(ReadOnlySpan<byte> utf8, out string name)
    {
        name = "";
        if (utf8.Contains((byte)0))
        {
            return false;
        }

        try
        {
            name = s_strictUtf8.GetString(utf8);
            return true;
        }
        catch (DecoderFallbackException)
        {
            return false;
        }
    }

    /// <returns>Null if there is no such export, or it cannot be opened: the text says which.</returns>
    private ServedExport? Open(string name, out string reason)
    {
        reason = "";
        if (_opened?.Name == name)
        {
            return _opened;
        }

        Close();
        NbdBackend? backend = null;
        try
        {
            backend = Wait(_options.OpenExport(name, _cancellationToken));
            if (backend is null)
            {
                reason = "no such export";
                return null;
            }

            _opened = new ServedExport(name, backend, _options);
            return _opened;
        }
        catch (Exception exception)
        {
            string text = PlainText.From(exception.Message);
            _log.Write($"open the export '{PlainText.From(name)}': {text}");
            if (backend is not null)
            {
                Wait(backend.DisposeAsync());
            }

            reason = text;
            return null;
        }
    }

    private void Close()
    {
        if (_opened is ServedExport opened)
        {
            _opened = null;
            Wait(opened.Backend.DisposeAsync());
        }
    }

    // The connection's thread has nothing else to do.
    private static T Wait<T>(ValueTask<T> task) => task.IsCompleted ? task.Result : task.AsTask().GetAwaiter().GetResult();

    private static void Wait(ValueTask task)
    {
        if (!task.IsCompleted)
        {
            task.AsTask().GetAwaiter().GetResult();
            return;
        }

        task.GetAwaiter().GetResult();
    }
}
