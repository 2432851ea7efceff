using System.Buffers.Binary;
using System.Text;
using Linux;
using Nbd.Protocol;

namespace Nbd;

// The options of a fixed newstyle server: one at a time, each answered to its end before the next.
internal sealed partial class NbdHandshake
{
    /// <summary>Most replies to one option; more is a server that never ends.</summary>
    private const int MaximumReplies = 1000;

    // Room for the texts of the server. The longest reply is NBD_REP_SERVER: a length and two strings.
    private readonly byte[] _replyData = new byte[sizeof(uint) + (2 * NbdLimits.MaximumStringBytes)];

    // Whether replies come in chunks; they do with extended headers, too.
    private bool _structuredReplies;
    private bool _extendedHeaders;

    /// <summary>Extended headers if they are of use, else structured replies, else what is left.</summary>
    private void NegotiateReplies()
    {
        _extendedHeaders = (_options.ExtendedHeaders ?? _options.MetaContexts.Count > 0)
            && Agree(NbdOption.ExtendedHeaders);
        _structuredReplies = _extendedHeaders || Agree(NbdOption.StructuredReply);
    }

    /// <summary>An option without data that is either agreed to or not.</summary>
    private bool Agree(NbdOption option)
    {
        SendOption(option, _buffer.AsSpan(0, NbdOptionRequest.Encode(_buffer, option)));
        NbdOptionReply reply = ReceiveReply(option);
        if (reply.IsError)
        {
            // Whatever the reason, one can do without; if the reason concerns GO as well, GO will say so.
            _ = ReceiveError(reply);
            return false;
        }

        RequireAck(reply);
        return true;
    }

    /// <summary>
    /// INFO tells about an export. GO does the same and then enters the transmission phase. A server that insists on
    /// extended headers is asked again with them.
    /// </summary>
    /// <returns>Null if the server does not know GO, so that only EXPORT_NAME remains.</returns>
    private NbdExport? InfoOrGo(NbdOption option)
    {
        NbdExport? export = ExchangeInfo(option, out OptionError error);
        if (error.Type == NbdOptionReplyType.ErrorExtendedHeadersRequired && !_extendedHeaders && AgreeToExtendedHeaders())
        {
            SelectMetaContexts();
            export = ExchangeInfo(option, out error);
        }

        if (export is not null || LacksGo(option, error))
        {
            return export;
        }

        throw error.Type == NbdOptionReplyType.ErrorUnknown && option == NbdOption.Go
            ? Refusal(error, ExportInWords(), $"; {ListExportsInWords()}")
            : Refusal(error, ExportInWords());
    }

    /// <summary>Whether only EXPORT_NAME remains, which nobody may use after extended headers.</summary>
    private bool LacksGo(NbdOption option, OptionError error)
    {
        bool lacks = option == NbdOption.Go && error.Type == NbdOptionReplyType.ErrorUnsupported;
        return lacks && _extendedHeaders
            ? throw Violation("it agreed to extended headers, but does not know NBD_OPT_GO")
            : lacks;
    }

    /// <returns>Null, and the error, if the server refuses.</returns>
    private NbdExport? ExchangeInfo(NbdOption option, out OptionError error)
    {
        error = default;
        bool wantsTexts = option == NbdOption.Info || _options.FullInfo;
        SendOption(option, _buffer.AsSpan(0, NbdOptionRequest.EncodeGo(
            _buffer,
            option,
            _exportNameUtf8,
            [
                .. wantsTexts ? [NbdInfoType.Name, NbdInfoType.Description] : Array.Empty<NbdInfoType>(),
                .. _options.RequestBlockSizes ? [NbdInfoType.BlockSize] : Array.Empty<NbdInfoType>(),
            ])));
        NbdExport? export = null;
        NbdBlockSizeInfo? blockSizes = null;
        string? description = null;
        string? canonicalName = null;
        for (int replies = 0; replies < MaximumReplies; replies++)
        {
            NbdOptionReply reply = ReceiveReply(option);
            if (reply.IsError)
            {
                error = ReceiveError(reply);
                return null;
            }

            if (reply.Type != NbdOptionReplyType.Info)
            {
                RequireAck(reply);
                _isAnswered = option == NbdOption.Info;
                return WithDetails(
                    export ?? throw Violation($"it acknowledged {SpecificationName(option)} without NBD_INFO_EXPORT"),
                    blockSizes,
                    description) with
                { CanonicalName = canonicalName };
            }

            ReadOnlySpan<byte> data = ReceiveInfo(reply, out NbdInfoType type);
            switch (type)
            {
                case NbdInfoType.Export:
                    export = MakeExport(NbdExportInfo.Decode(data));
                    break;
                case NbdInfoType.BlockSize:
                    blockSizes = NbdBlockSizeInfo.Decode(data);
                    break;
                case NbdInfoType.Description:
                    description = PrintableText.From(data);
                    break;
                case NbdInfoType.Name:
                    canonicalName = Encoding.UTF8.GetString(data);
                    break;
                default:
                    break;
            }
        }

        throw Violation($"it answered {SpecificationName(option)} with more than {MaximumReplies} replies");
    }

    private static NbdExport WithDetails(NbdExport export, NbdBlockSizeInfo? blockSizes, string? description)
    {
        export = export with { Description = description };
        // A set that breaks the rules is ignored as a whole: its parts explain one another.
        return blockSizes is { IsValid: true } sizes
            ? export with
            {
                MinimumBlockBytes = (int)sizes.MinimumBytes,
                PreferredBlockBytes = sizes.PreferredBytes,
                MaximumPayloadBytes = (int)Math.Min(sizes.MaximumPayloadBytes, NbdLimits.MaximumPayloadBytes),
            }
            : export;
    }

    /// <returns>What follows the type; empty for a type that is unknown, whose data are skipped.</returns>
    private ReadOnlySpan<byte> ReceiveInfo(NbdOptionReply reply, out NbdInfoType type)
    {
        if (reply.Length < sizeof(ushort))
        {
            throw Violation($"an NBD_REP_INFO of {reply.Length} bytes is too short for its type");
        }

        Span<byte> wire = _replyData.AsSpan(0, sizeof(ushort));
        _channel.Receive(wire);
        type = (NbdInfoType)BinaryPrimitives.ReadUInt16BigEndian(wire);
        uint length = reply.Length - sizeof(ushort);
        bool possible = type switch
        {
            NbdInfoType.Export => length == NbdExportInfo.LengthBytes,
            NbdInfoType.BlockSize => length == NbdBlockSizeInfo.LengthBytes,
            NbdInfoType.Name or NbdInfoType.Description => length <= NbdLimits.MaximumStringBytes,
            _ => length <= HandshakeChannel.MaximumReceivedBytes,
        };
        if (!possible)
        {
            throw Violation($"an NBD_REP_INFO of type {(ushort)type} cannot have {reply.Length} bytes");
        }

        if (length > _replyData.Length - sizeof(ushort))
        {
            _channel.Skip(length);
            return default;
        }

        Span<byte> data = _replyData.AsSpan(sizeof(ushort), (int)length);
        _channel.Receive(data);
        return data;
    }

    private void SendOption(NbdOption option, ReadOnlySpan<byte> request)
    {
        _isAnswered = false;
        _channel.Phase = $"waiting for the answer to {SpecificationName(option)}";
        _channel.Send(request);
    }

    private NbdOptionReply ReceiveReply(NbdOption option)
    {
        Span<byte> wire = stackalloc byte[NbdOptionReply.SizeBytes];
        _channel.Receive(wire);
        if (!NbdOptionReply.TryDecode(wire, out NbdOptionReply reply))
        {
            throw Violation(
                $"an option reply starts with 0x{Convert.ToHexStringLower(wire[..8])} instead of its magic number");
        }

        if (reply.Option != option)
        {
            throw Violation($"it answered option {(uint)reply.Option} when {SpecificationName(option)} was sent");
        }

        if (reply.Length > HandshakeChannel.MaximumReceivedBytes)
        {
            throw Violation($"a reply to {SpecificationName(option)} claims {reply.Length} bytes");
        }

        return reply;
    }

    private void RequireAck(NbdOptionReply reply)
    {
        if (reply.Type != NbdOptionReplyType.Ack)
        {
            throw Violation($"it answered {SpecificationName(reply.Option)} with reply type {(uint)reply.Type}");
        }

        if (reply.Length != 0)
        {
            throw Violation($"its NBD_REP_ACK to {SpecificationName(reply.Option)} has {reply.Length} bytes of data");
        }

        _isAnswered = true;
    }

    private OptionError ReceiveError(NbdOptionReply reply)
    {
        Span<byte> text = _replyData.AsSpan(0, (int)Math.Min(reply.Length, NbdLimits.MaximumStringBytes));
        _channel.Receive(text);
        _channel.Skip(reply.Length - (uint)text.Length);
        _isAnswered = true;
        IsShuttingDown |= reply.Type == NbdOptionReplyType.ErrorShutdown;
        return new OptionError(reply.Type, PrintableText.From(text));
    }

    /// <param name="error">What the server answered.</param>
    /// <param name="subject">What it refused.</param>
    /// <param name="advice">The end of the message.</param>
    private NbdException Refusal(OptionError error, string subject, string advice = "")
    {
        if (error.Type == NbdOptionReplyType.ErrorTlsRequired)
        {
            return TlsRequired(subject, error.Saying);
        }

        (string what, Errno errno) = error.Type switch
        {
            NbdOptionReplyType.ErrorUnknown => ($"no export named {QuotedName()}", Errno.ENOENT),
            NbdOptionReplyType.ErrorPolicy => ($"the server's policy forbids {subject}", Errno.EACCES),
            NbdOptionReplyType.ErrorPlatform =>
                ($"the server's platform cannot serve {subject}", Errno.EOPNOTSUPP),
            NbdOptionReplyType.ErrorInvalid =>
                ($"the server calls our request for {subject} invalid", Errno.EINVAL),
            NbdOptionReplyType.ErrorTooBig =>
                ($"our request for {subject} is too long for the server", Errno.ENAMETOOLONG),
            NbdOptionReplyType.ErrorShutdown => ("the server is shutting down", Errno.ESHUTDOWN),
            NbdOptionReplyType.ErrorBlockSizeRequired =>
                ("the server requires clients that ask for block sizes, and says that we did not", Errno.EPROTO),
            NbdOptionReplyType.ErrorExtendedHeadersRequired =>
                ("the server requires extended headers, which were not agreed on", Errno.EOPNOTSUPP),
            NbdOptionReplyType.ErrorUnsupported => ($"the server has no way to tell about {subject}", Errno.EOPNOTSUPP),
            _ => ($"the server refused {subject} with the unknown error 0x{(uint)error.Type:x8}", Errno.EIO),
        };
        return new NbdException($"{_peer}: {what}{error.Saying}{advice}", errno);
    }

    private string QuotedName() => _exportName.Length == 0
        ? "'' (the default export)"
        : $"'{PrintableText.From(_exportName)}'";

    private static string SpecificationName(NbdOption option) => option switch
    {
        NbdOption.StructuredReply => "NBD_OPT_STRUCTURED_REPLY",
        NbdOption.ExtendedHeaders => "NBD_OPT_EXTENDED_HEADERS",
        NbdOption.Go => "NBD_OPT_GO",
        NbdOption.Info => "NBD_OPT_INFO",
        NbdOption.List => "NBD_OPT_LIST",
        NbdOption.StartTls => "NBD_OPT_STARTTLS",
        NbdOption.ListMetaContext => "NBD_OPT_LIST_META_CONTEXT",
        NbdOption.SetMetaContext => "NBD_OPT_SET_META_CONTEXT",
        _ => $"option {(uint)option}",
    };
}
