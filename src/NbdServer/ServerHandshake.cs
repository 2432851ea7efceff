using System.Buffers.Binary;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// The handshake with one client, fixed newstyle (proto.md, "Handshake phase"): one option after the other, on the
/// connection's thread. All waiting is bounded by the transport's deadline.
/// </summary>
internal sealed partial class ServerHandshake : IAsyncDisposable
{
    // Longer data are no option of ours; up to the second limit they are at least skipped politely.
    private const int MaximumOptionBytes = InputBuffer.MaximumBytes - NbdOptionRequest.HeaderBytes;
    private const int MaximumSkippedBytes = 16 * 1024 * 1024;

    private readonly InputBuffer _input;
    private readonly NbdServerOptions _options;
    private readonly TlsIdentity? _tls;
    private readonly ServerLog _log;
    private readonly Func<bool> _isStopping;
    private readonly CancellationToken _cancellationToken;
    private readonly OptionReplies _replies = new();

    // TLS was agreed on and begins after the reply.
    private bool _startTls;
    private bool _isTls;
    private bool _noZeroes;
    private ReplyStyle _style;
    // The export of the last successful SET_META_CONTEXT that chose base:allocation.
    private string? _allocationOf;
    // What an option opened, kept for the next one that asks for the same.
    private ServedExport? _opened;

    public ServerHandshake(
        InputBuffer input,
        NbdServerOptions options,
        TlsIdentity? tls,
        ServerLog log,
        Func<bool> isStopping,
        CancellationToken cancellationToken)
    {
        _input = input;
        _options = options;
        _tls = tls;
        _log = log;
        _isStopping = isStopping;
        _cancellationToken = cancellationToken;
    }

    private ServerTransport Transport => _input.Transport;

    /// <summary>Talks to the client until it enters the transmission phase.</summary>
    /// <returns>Null if it left.</returns>
    /// <exception cref="LostClientException">It broke the protocol or was too slow.</exception>
    public NegotiatedExport? Run()
    {
        Span<byte> greeting = stackalloc byte[18];
        BinaryPrimitives.WriteUInt64BigEndian(greeting, NbdMagic.Init);
        BinaryPrimitives.WriteUInt64BigEndian(greeting[8..], NbdMagic.Option);
        const NbdHandshakeFlags Known = NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes;
        BinaryPrimitives.WriteUInt16BigEndian(greeting[16..], (ushort)Known);
        if (!Transport.SendAll(greeting) || !_input.TryFill(sizeof(uint)))
        {
            return null;
        }

        NbdHandshakeFlags flags = (NbdHandshakeFlags)BinaryPrimitives.ReadUInt32BigEndian(_input.Bytes);
        _input.Consume(sizeof(uint));
        if ((flags & ~Known) != 0)
        {
            throw new LostClientException($"it sent the handshake flags 0x{(uint)flags:x}, of which not all are known");
        }

        _noZeroes = (flags & NbdHandshakeFlags.NoZeroes) != 0;
        while (_input.TryFill(NbdOptionRequest.HeaderBytes))
        {
            if (!NbdOptionHeader.TryDecode(_input.Bytes, out NbdOptionHeader header))
            {
                throw new LostClientException("it sent an option without its magic number");
            }

            _input.Consume(NbdOptionRequest.HeaderBytes);
            if (header.Length > MaximumOptionBytes)
            {
                if (!RefuseLongOption(header))
                {
                    return null;
                }

                continue;
            }

            if (!_input.TryFill((int)header.Length))
            {
                return null;
            }

            ReadOnlySpan<byte> data = _input.Bytes[..(int)header.Length];
            // The bytes stay where they are until more are received.
            _input.Consume(data.Length);
            _replies.Begin(header.Option);
            NegotiatedExport? export = Handle(header.Option, data, out bool isOver);
            if (!Transport.SendAll(_replies.Bytes))
            {
                return null;
            }

            if (export is not null || isOver)
            {
                return export;
            }

            if (_startTls)
            {
                StartTls();
            }
        }

        return null;
    }

    /// <summary>Gives the backend back, unless it is being served.</summary>
    public ValueTask DisposeAsync() => _opened?.Backend.DisposeAsync() ?? ValueTask.CompletedTask;

    private bool RefuseLongOption(NbdOptionHeader header)
    {
        _replies.Begin(header.Option);
        _replies.AddError(NbdOptionReplyType.ErrorTooBig, $"{header.Length} bytes are too long for an option");
        if (header.Length > MaximumSkippedBytes)
        {
            _ = Transport.SendAll(_replies.Bytes);
            throw new LostClientException($"it announced an option of {header.Length} bytes");
        }

        return _input.TryDiscard(header.Length) && Transport.SendAll(_replies.Bytes);
    }

    private NegotiatedExport? Handle(NbdOption option, ReadOnlySpan<byte> data, out bool isOver)
    {
        isOver = false;
        if (_tls is not null && _options.Tls!.Require && !_isTls
            && option is not (NbdOption.StartTls or NbdOption.Abort))
        {
            _replies.AddError(NbdOptionReplyType.ErrorTlsRequired, "this server needs TLS");
            // EXPORT_NAME has no error reply.
            isOver = option == NbdOption.ExportName;
            return isOver ? throw new LostClientException("it did not use TLS") : null;
        }

        if (_isStopping() && option is not NbdOption.Abort)
        {
            _replies.AddError(NbdOptionReplyType.ErrorShutdown, "the server is about to end");
            isOver = option == NbdOption.ExportName;
            return null;
        }

        switch (option)
        {
            case NbdOption.ExportName:
                return EnterByName(data);
            case NbdOption.Abort:
                _replies.Add(NbdOptionReplyType.Ack);
                isOver = true;
                return null;
            case NbdOption.List:
                List(data);
                return null;
            case NbdOption.StartTls:
                AgreeToTls(data);
                return null;
            case NbdOption.Info:
            case NbdOption.Go:
                return InfoOrGo(option, data);
            case NbdOption.StructuredReply:
                AgreeToStyle(data, ReplyStyle.Structured);
                return null;
            case NbdOption.ExtendedHeaders:
                AgreeToStyle(data, ReplyStyle.Extended);
                return null;
            case NbdOption.ListMetaContext:
            case NbdOption.SetMetaContext:
                MetaContexts(option, data);
                return null;
            default:
                _replies.AddError(NbdOptionReplyType.ErrorUnsupported, "unknown option");
                return null;
        }
    }

    private NegotiatedExport? EnterByName(ReadOnlySpan<byte> data)
    {
        // It has no error reply, only the end of the connection.
        if (_style == ReplyStyle.Extended)
        {
            throw new LostClientException("it sent NBD_OPT_EXPORT_NAME after it agreed to extended headers");
        }

        if (data.Length > NbdLimits.MaximumStringBytes || !TryDecodeName(data, out string name))
        {
            throw new LostClientException("it asked for an export by an impossible name");
        }

        if (Open(name, out string reason) is not ServedExport export)
        {
            throw new LostClientException($"it asked for the export '{PlainText.From(name)}': {reason}");
        }

        const int ReservedBytes = 124;
        Span<byte> answer = stackalloc byte[NbdExportInfo.LengthBytes + ReservedBytes];
        answer.Clear();
        new NbdExportInfo((ulong)export.SizeBytes, export.FlagsFor(_style)).Encode(answer);
        _replies.AddBare(_noZeroes ? answer[..NbdExportInfo.LengthBytes] : answer);
        return Enter(export);
    }

    private NegotiatedExport Enter(ServedExport export)
    {
        _opened = null;
        return new(export, _style, _style != ReplyStyle.Simple && _allocationOf == export.Name);
    }

    private void AgreeToTls(ReadOnlySpan<byte> data)
    {
        if (_tls is null)
        {
            _replies.AddError(NbdOptionReplyType.ErrorPolicy, "this server has no certificate");
        }
        else if (_isTls)
        {
            _replies.AddError(NbdOptionReplyType.ErrorInvalid, "TLS is in use already");
        }
        else if (RequireNoData(data))
        {
            _replies.Add(NbdOptionReplyType.Ack);
            _startTls = true;
        }
    }

    private void StartTls()
    {
        // Bytes that came before the encryption are nobody's: an attacker may have put them there.
        if (_input.Available > 0)
        {
            throw new LostClientException("it sent bytes between NBD_OPT_STARTTLS and TLS");
        }

        _input.Transport = new TlsTransport(Transport, _tls!.Options);
        _startTls = false;
        _isTls = true;
        _style = ReplyStyle.Simple;
        _allocationOf = null;
        Close();
    }

    private void AgreeToStyle(ReadOnlySpan<byte> data, ReplyStyle style)
    {
        if (!RequireNoData(data))
        {
            return;
        }

        if (style < _style)
        {
            _replies.AddError(NbdOptionReplyType.ErrorExtendedHeadersRequired, "extended headers are agreed already");
            return;
        }

        _style = style;
        _replies.Add(NbdOptionReplyType.Ack);
    }

    private bool RequireNoData(ReadOnlySpan<byte> data)
    {
        if (!data.IsEmpty)
        {
            _replies.AddError(NbdOptionReplyType.ErrorInvalid, "the option takes no data");
        }

        return data.IsEmpty;
    }
}
