using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// The handshake of one connection (proto.md, "Handshake phase"): <see cref="Run"/> is one linear conversation,
/// <see cref="Begin"/> is for a caller who chooses the steps. Everything that the server sends is checked before it is used.
/// </summary>
internal sealed partial class NbdHandshake
{
    private readonly HandshakeChannel _channel;
    private readonly string _peer;
    private readonly NbdClientOptions _options;
    private readonly byte[] _buffer = new byte[NbdOptionRequest.MaximumBytes];
    private string _exportName;
    private byte[] _exportNameUtf8;
    private bool _isFixedNewstyle;
    // Whether the last option was answered to its end.
    private bool _isAnswered = true;
    // All that an oldstyle server has to say; null for all others.
    private NbdExportInfo? _oldstyle;
    // Whether zeroes follow the answer to EXPORT_NAME.
    private bool _sendsZeroes;

    private NbdHandshake(
        HandshakeChannel channel, string exportName, string peer, NbdClientOptions options, TlsCredentials? tls)
    {
        _channel = channel;
        _tls = tls;
        _peer = peer;
        _options = options;
        NameExport(exportName);
    }

    /// <summary>
    /// Leads a connected stream socket from the server's greeting into the transmission phase. When it fails, the
    /// socket was shut down; closing it is the caller's part in any case.
    /// </summary>
    /// <param name="socket">Not used by anyone else meanwhile.</param>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="peerDescription">Begins the messages of exceptions.</param>
    /// <param name="deadline">For all of it.</param>
    /// <param name="cancellationToken">Ends it at once.</param>
    /// <param name="options">What to ask for; null for the defaults.</param>
    /// <param name="tls">For TLS; null: none.</param>
    /// <exception cref="NbdException">
    /// The server refused (ENOENT: no such export; EOPNOTSUPP: it needs what is not supported; EACCES, EINVAL,
    /// ESHUTDOWN), is not to be trusted (EACCES), went away (ECONNRESET), was silent (ETIMEDOUT) or broke the protocol
    /// (EPROTO).
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    internal static NegotiatedConnection Run(
        SafeFd socket,
        string exportName,
        string peerDescription,
        Deadline deadline,
        CancellationToken cancellationToken,
        NbdClientOptions? options = null,
        TlsCredentials? tls = null)
    {
        using HandshakeChannel channel = new(socket, peerDescription, deadline, cancellationToken);
        NbdHandshake handshake = new(channel, exportName, peerDescription, options ?? new(), tls);
        bool agreed = false;
        try
        {
            handshake.Greet();
            handshake.StartTls();
            if (handshake._isFixedNewstyle)
            {
                handshake.NegotiateReplies();
                handshake.SelectMetaContexts();
            }

            NegotiatedConnection connection = handshake.Enter(handshake.InfoOrGo);
            agreed = true;
            return connection;
        }
        finally
        {
            if (!agreed)
            {
                handshake.Leave();
            }
        }
    }

    /// <summary>Whether an option may be sent now.</summary>
    private bool MayHaggle => _isFixedNewstyle && _isAnswered;

    /// <summary>Says which export is meant from here on.</summary>
    [MemberNotNull(nameof(_exportName), nameof(_exportNameUtf8))]
    internal void NameExport(string name) => (_exportNameUtf8, _exportName) = (EncodeExportName(name), name);

    private static byte[] EncodeExportName(string exportName)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(exportName);
        if (utf8.Length > NbdLimits.MaximumStringBytes)
        {
            throw new NbdException(
                $"the export name has {utf8.Length} bytes; NBD allows {NbdLimits.MaximumStringBytes}",
                Errno.ENAMETOOLONG);
        }

        if (utf8.AsSpan().Contains((byte)0))
        {
            throw new NbdException("the export name holds a NUL byte, which NBD does not allow", Errno.EINVAL);
        }

        return utf8;
    }

    /// <summary>From the server's first byte to the client's flags.</summary>
    private void Greet()
    {
        _channel.Phase = "waiting for its greeting";
        Span<byte> magic = stackalloc byte[NbdGreeting.MagicBytes];
        // The first half alone tells an NBD server from one that says less than 16 bytes and waits.
        _channel.Receive(magic[..8]);
        if (BinaryPrimitives.ReadUInt64BigEndian(magic) != NbdMagic.Init)
        {
            throw NotAnNbdServer(magic[..8]);
        }

        _channel.Receive(magic[8..]);
        switch (BinaryPrimitives.ReadUInt64BigEndian(magic[8..]))
        {
            case NbdMagic.Oldstyle:
                GreetOldstyle();
                break;
            case NbdMagic.Option:
                GreetNewstyle();
                break;
            default:
                throw NotAnNbdServer(magic);
        }
    }

    private void GreetOldstyle()
    {
        if (RequiresTls)
        {
            throw NoTls("the server speaks the oldstyle protocol, which has none");
        }

        Span<byte> rest = stackalloc byte[NbdGreeting.OldstyleBytes];
        _channel.Receive(rest);
        _oldstyle = NbdGreeting.DecodeOldstyle(rest, out ushort globalFlags);
        if (globalFlags != 0)
        {
            throw Violation($"its oldstyle greeting has the reserved flags 0x{globalFlags:x4}");
        }
    }

    private void GreetNewstyle()
    {
        Span<byte> wire = stackalloc byte[NbdGreeting.ClientFlagsBytes];
        _channel.Receive(wire[..NbdGreeting.ServerFlagsBytes]);
        // A bit that the server did not send must not be answered: it would have to drop us.
        NbdHandshakeFlags flags = NbdGreeting.DecodeServerFlags(wire)
            & (NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes)
            & _options.HandshakeFlags;
        NbdGreeting.EncodeClientFlags(wire, flags);
        _channel.Phase = "sending the client flags";
        _channel.Send(wire);
        _sendsZeroes = !flags.HasFlag(NbdHandshakeFlags.NoZeroes);
        _isFixedNewstyle = flags.HasFlag(NbdHandshakeFlags.FixedNewstyle);
        if (RequiresTls && !_isFixedNewstyle)
        {
            throw NoTls(_options.HandshakeFlags.HasFlag(NbdHandshakeFlags.FixedNewstyle)
                ? "the server does not speak the fixed newstyle protocol, without which there is none"
                : "there is none without FixedNewstyle among the HandshakeFlags");
        }
    }

    /// <summary>From the options to the transmission phase.</summary>
    /// <param name="go">Sends GO where it can be sent; null when only EXPORT_NAME remains.</param>
    private NegotiatedConnection Enter(Func<NbdOption, NbdExport?> go)
    {
        if (_oldstyle is { } info)
        {
            RequireNoName();
            return new NegotiatedConnection(MakeExport(info));
        }

        NbdExport export = (_isFixedNewstyle ? go(NbdOption.Go) : null) ?? EnterByExportName();
        return new NegotiatedConnection(export)
        {
            ContextIds = [.. Contexts.Values],
            Tls = _channel.TakeTls(),
        };
    }

    /// <summary>An oldstyle server has one export, which has no name.</summary>
    private void RequireNoName()
    {
        if (_exportName.Length > 0)
        {
            throw new NbdException(
                $"{_peer}: no export named '{PrintableText.From(_exportName)}': the server speaks the oldstyle "
                + "protocol and has a single export without a name; leave the export name out",
                Errno.ENOENT);
        }
    }

    /// <summary>EXPORT_NAME: it has no error reply, the server can only hang up.</summary>
    private NbdExport EnterByExportName()
    {
        _channel.Phase = "waiting for the answer to NBD_OPT_EXPORT_NAME";
        _isAnswered = false;
        _channel.Send(_buffer.AsSpan(0, NbdOptionRequest.EncodeExportName(_buffer, _exportNameUtf8)));
        Span<byte> wire = stackalloc byte[NbdGreeting.ExportNameReplyBytes];
        try
        {
            _channel.Receive(wire);
        }
        catch (NbdException e) when (e.Errno == Errno.ECONNRESET)
        {
            throw new NbdException(
                $"{_peer}: the server refused {ExportInWords()} by closing the connection; it has no other way "
                + "to say that the export does not exist or that we may not use it",
                Errno.ENOENT);
        }

        NbdExport export = MakeExport(NbdExportInfo.Decode(wire));
        if (_sendsZeroes)
        {
            _channel.Skip(NbdGreeting.ExportNameZeroesBytes);
        }

        return export;
    }

    private NbdExport MakeExport(NbdExportInfo info)
    {
        if (info.SizeBytes > NbdLimits.MaximumExportBytes)
        {
            throw new NbdException(
                $"{_peer}: the server gives {ExportInWords()} a size of {info.SizeBytes} bytes; "
                + $"at most {NbdLimits.MaximumExportBytes} (2^63-1) can be used",
                Errno.EFBIG);
        }

        if (!info.Flags.HasFlag(NbdTransmissionFlags.HasFlags))
        {
            throw Violation(
                $"its transmission flags 0x{(ushort)info.Flags:x4} for {ExportInWords()} lack NBD_FLAG_HAS_FLAGS");
        }

        return new NbdExport
        {
            Name = _exportName,
            SizeBytes = (long)info.SizeBytes,
            Flags = UsableFlags(info.Flags),
            StructuredReplies = _structuredReplies,
            ExtendedHeaders = _extendedHeaders,
            MetaContexts = new MetaContextNames(Contexts.Keys),
        };
    }

    private NbdTransmissionFlags UsableFlags(NbdTransmissionFlags flags)
    {
        flags &= NbdTransmissionFlags.HasFlags
            | NbdTransmissionFlags.ReadOnly
            | NbdTransmissionFlags.SendFlush
            | NbdTransmissionFlags.SendForceUnitAccess
            | NbdTransmissionFlags.Rotational
            | NbdTransmissionFlags.SendTrim
            | NbdTransmissionFlags.SendWriteZeroes
            | NbdTransmissionFlags.SendDontFragment
            | NbdTransmissionFlags.CanMultiConn
            | NbdTransmissionFlags.SendCache
            | NbdTransmissionFlags.SendFastZero
            | NbdTransmissionFlags.BlockStatusPayload;
        if (!_extendedHeaders || Contexts.Count == 0)
        {
            flags &= ~NbdTransmissionFlags.BlockStatusPayload;
        }

        if (!_structuredReplies)
        {
            flags &= ~NbdTransmissionFlags.SendDontFragment;
        }

        if (!flags.HasFlag(NbdTransmissionFlags.SendWriteZeroes))
        {
            flags &= ~NbdTransmissionFlags.SendFastZero;
        }

        return flags;
    }

    /// <summary>ABORT where that is possible (its answer is not waited for), then the end of the connection.</summary>
    internal void Leave()
    {
        if (MayHaggle)
        {
            _channel.SendWithoutWaiting(_buffer.AsSpan(0, NbdOptionRequest.Encode(_buffer, NbdOption.Abort)));
        }

        _isAnswered = false;
        _channel.Shutdown();
    }

    private string ExportInWords() => _exportName.Length == 0
        ? "the default export"
        : $"export '{PrintableText.From(_exportName)}'";

    private NbdProtocolException Violation(string what) =>
        new($"{_peer}: the server broke the NBD protocol: {what}");

    private NbdProtocolException NotAnNbdServer(ReadOnlySpan<byte> magic) => new(
        $"{_peer} is not an NBD server: its first bytes are 0x{Convert.ToHexStringLower(magic)} "
        + $"('{PrintableText.From(magic)}')");
}
