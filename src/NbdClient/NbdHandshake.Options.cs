using System.Buffers.Binary;
using Linux;
using Nbd.Protocol;

namespace Nbd;

// The options of a fixed newstyle server: one at a time, each answered to its end before the next.
internal sealed partial class NbdHandshake
{
    /// <summary>Most replies to one option; more is a server that never ends.</summary>
    private const int MaximumReplies = 1000;

    /// <summary>Most exports named in a message.</summary>
    private const int MaximumListedExports = 20;

    // Room for the texts of the server: NAME and DESCRIPTION with their type, error messages.
    private readonly byte[] _replyData = new byte[sizeof(ushort) + NbdLimits.MaximumStringBytes];

    private bool RequestStructuredReplies()
    {
        SendOption(NbdOption.StructuredReply, NbdOptionRequest.Encode(_buffer, NbdOption.StructuredReply));
        NbdOptionReply reply = ReceiveReply(NbdOption.StructuredReply);
        if (reply.IsError)
        {
            // Whatever the reason, simple replies remain; if the reason concerns GO as well, GO will say so.
            _channel.Skip(reply.Length);
        }
        else
        {
            RequireAck(reply);
        }

        _mayHaggle = true;
        return !reply.IsError;
    }

    /// <returns>Null if the server does not know GO.</returns>
    private NbdExport? Go(bool structuredReplies)
    {
        SendOption(
            NbdOption.Go,
            NbdOptionRequest.EncodeGo(_buffer, NbdOption.Go, _exportNameUtf8, [NbdInfoType.BlockSize]));
        NbdExport? export = null;
        NbdBlockSizeInfo? blockSizes = null;
        string? description = null;
        for (int replies = 0; replies < MaximumReplies; replies++)
        {
            NbdOptionReply reply = ReceiveReply(NbdOption.Go);
            if (reply.IsError)
            {
                string text = ReceiveErrorText(reply);
                _mayHaggle = true;
                return reply.Type == NbdOptionReplyType.ErrorUnsupported ? null : throw Refusal(reply.Type, text);
            }

            if (reply.Type != NbdOptionReplyType.Info)
            {
                RequireAck(reply);
                return WithDetails(
                    export ?? throw Violation("it acknowledged NBD_OPT_GO without NBD_INFO_EXPORT"),
                    blockSizes,
                    description);
            }

            ReadOnlySpan<byte> data = ReceiveInfo(reply, out NbdInfoType type);
            switch (type)
            {
                case NbdInfoType.Export:
                    export = MakeExport(NbdExportInfo.Decode(data), structuredReplies);
                    break;
                case NbdInfoType.BlockSize:
                    blockSizes = NbdBlockSizeInfo.Decode(data);
                    break;
                case NbdInfoType.Description:
                    description = PrintableText.From(data);
                    break;
                default:
                    break;
            }
        }

        throw Violation($"it answered NBD_OPT_GO with more than {MaximumReplies} replies");
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

    /// <summary>The names of the exports in words; never fails, since it only makes a message better.</summary>
    private string ListExportsInWords()
    {
        try
        {
            _channel.Shorten(TimeSpan.FromSeconds(2));
            return ListExports() is { } names
                ? names.Count == 0 ? "the server has no exports" : $"the server has: {string.Join(", ", names)}"
                : "the server does not list its exports";
        }
        catch (NbdException)
        {
            return "the server did not list its exports";
        }
    }

    /// <returns>Null if the server refuses; at most <see cref="MaximumListedExports"/> and "...".</returns>
    private List<string>? ListExports()
    {
        SendOption(NbdOption.List, NbdOptionRequest.Encode(_buffer, NbdOption.List));
        List<string> names = [];
        while (names.Count <= MaximumListedExports)
        {
            NbdOptionReply reply = ReceiveReply(NbdOption.List);
            if (reply.IsError)
            {
                _channel.Skip(reply.Length);
                _mayHaggle = true;
                return null;
            }

            if (reply.Type != NbdOptionReplyType.Server)
            {
                RequireAck(reply);
                _mayHaggle = true;
                return names;
            }

            Span<byte> data = _replyData.AsSpan(0, (int)Math.Min(reply.Length, (uint)_replyData.Length));
            _channel.Receive(data);
            _channel.Skip(reply.Length - (uint)data.Length);
            if (!NbdServerEntry.TryDecode(data, out NbdServerEntry entry))
            {
                throw Violation($"an NBD_REP_SERVER of {reply.Length} bytes has an impossible name length");
            }

            names.Add(entry.Name.IsEmpty ? "the default export" : $"'{PrintableText.From(entry.Name)}'");
        }

        // The rest stays unread: this connection ends anyway, but no option may follow.
        names[^1] = "...";
        return names;
    }

    private void SendOption(NbdOption option, int length)
    {
        _mayHaggle = false;
        _channel.Phase = $"waiting for the answer to {SpecificationName(option)}";
        _channel.Send(_buffer.AsSpan(0, length));
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
    }

    private string ReceiveErrorText(NbdOptionReply reply)
    {
        Span<byte> text = _replyData.AsSpan(0, (int)Math.Min(reply.Length, NbdLimits.MaximumStringBytes));
        _channel.Receive(text);
        _channel.Skip(reply.Length - (uint)text.Length);
        return PrintableText.From(text);
    }

    private NbdException Refusal(NbdOptionReplyType type, string serverText)
    {
        string saying = serverText.Length == 0 ? "" : $" (the server says: {serverText})";
        if (type == NbdOptionReplyType.ErrorTlsRequired)
        {
            return TlsRequired(saying);
        }

        (string what, Errno errno) = type switch
        {
            NbdOptionReplyType.ErrorUnknown => ($"no export named {QuotedName()}", Errno.ENOENT),
            NbdOptionReplyType.ErrorPolicy => ($"the server's policy forbids {ExportInWords()}", Errno.EACCES),
            NbdOptionReplyType.ErrorPlatform =>
                ($"the server's platform cannot serve {ExportInWords()}", Errno.EOPNOTSUPP),
            NbdOptionReplyType.ErrorInvalid =>
                ($"the server calls our request for {ExportInWords()} invalid", Errno.EINVAL),
            NbdOptionReplyType.ErrorTooBig =>
                ($"our request for {ExportInWords()} is too long for the server", Errno.ENAMETOOLONG),
            NbdOptionReplyType.ErrorShutdown => ("the server is shutting down", Errno.ESHUTDOWN),
            NbdOptionReplyType.ErrorBlockSizeRequired =>
                ("the server requires clients that ask for block sizes, and says that we did not", Errno.EPROTO),
            NbdOptionReplyType.ErrorExtendedHeadersRequired =>
                ("the server requires extended headers, which are not supported yet", Errno.EOPNOTSUPP),
            _ => ($"the server refused {ExportInWords()} with the unknown error 0x{(uint)type:x8}", Errno.EIO),
        };
        string exports = type == NbdOptionReplyType.ErrorUnknown ? $"; {ListExportsInWords()}" : "";
        return new NbdException($"{_peer}: {what}{saying}{exports}", errno);
    }

    private string QuotedName() => _exportName.Length == 0
        ? "'' (the default export)"
        : $"'{PrintableText.From(_exportName)}'";

    private static string SpecificationName(NbdOption option) => option switch
    {
        NbdOption.StructuredReply => "NBD_OPT_STRUCTURED_REPLY",
        NbdOption.Go => "NBD_OPT_GO",
        NbdOption.List => "NBD_OPT_LIST",
        NbdOption.StartTls => "NBD_OPT_STARTTLS",
        _ => $"option {(uint)option}",
    };
}
