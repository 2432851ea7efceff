using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>STARTTLS (proto.md, "TLS support"): the first option, and the last one that everybody can read.</content>
internal sealed partial class NbdHandshake
{
    private readonly TlsCredentials? _tls;

    /// <summary>Whether all that is sent and received is encrypted.</summary>
    internal bool IsEncrypted { get; private set; }

    private bool RequiresTls => _tls is { Policy: NbdTlsPolicy.Require };

    /// <summary>
    /// Asks for TLS, where it is wanted and there can be any, and starts it. Without the server's consent this is the end, or
    /// the rest is not encrypted. What was agreed on before is forgotten (proto.md, "NBD_OPT_STARTTLS").
    /// </summary>
    /// <returns>Whether the connection is encrypted.</returns>
    internal bool StartTls()
    {
        if (_tls is null || !_isFixedNewstyle || IsEncrypted)
        {
            return IsEncrypted;
        }

        SendOption(NbdOption.StartTls, _buffer.AsSpan(0, NbdOptionRequest.Encode(_buffer, NbdOption.StartTls)));
        NbdOptionReply reply = ReceiveReply(NbdOption.StartTls);
        if (reply.IsError)
        {
            OptionError error = ReceiveError(reply);
            if (RequiresTls)
            {
                throw NoTls(error.Type switch
                {
                    NbdOptionReplyType.ErrorPolicy => $"the server's policy forbids it{error.Saying}",
                    NbdOptionReplyType.ErrorUnsupported => $"the server has none{error.Saying}",
                    _ => $"the server refused it with error 0x{(uint)error.Type:x8}{error.Saying}",
                });
            }

            return false;
        }

        RequireAck(reply);
        _isAnswered = false;
        _channel.StartTls(_tls);
        (_isAnswered, IsEncrypted) = (true, true);
        _extendedHeaders = _structuredReplies = false;
        _contexts.Clear();
        return true;
    }

    private NbdException NoTls(string reason) => new(
        $"{_peer}: TLS is required, but {reason}; this may also be someone between who wants to listen. Set up TLS on "
        + "the server, or connect without it (nbd in place of nbds in the URI)",
        Errno.EOPNOTSUPP);

    private NbdException TlsRequired(string subject, string saying) => IsEncrypted
        ? Violation($"it says that {subject} requires TLS, which is in use{saying}")
        : new NbdException(
            $"{_peer}: the server requires TLS for {subject}{saying}; connect with TLS, with nbds in place of nbd in the URI",
            Errno.EOPNOTSUPP)
        {
            RequiresTls = true,
        };
}
