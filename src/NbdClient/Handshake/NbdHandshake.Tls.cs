using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <content>STARTTLS (proto.md, "TLS support"): the first option, and the last one that everybody can read.</content>
internal sealed partial class NbdHandshake
{
    private readonly TlsCredentials? _tls;

    private bool RequiresTls => _tls is { Policy: NbdTlsPolicy.Require };

    /// <summary>Asks for TLS and starts it. Without the server's consent this is the end, or the rest is not encrypted.</summary>
    private void StartTls(TlsCredentials credentials)
    {
        SendOption(NbdOption.StartTls, _buffer.AsSpan(0, NbdOptionRequest.Encode(_buffer, NbdOption.StartTls)));
        NbdOptionReply reply = ReceiveReply(NbdOption.StartTls);
        if (reply.IsError)
        {
            string text = ReceiveErrorText(reply);
            _mayHaggle = true;
            if (RequiresTls)
            {
                string saying = text.Length == 0 ? "" : $" (the server says: {text})";
                throw NoTls(reply.Type switch
                {
                    NbdOptionReplyType.ErrorPolicy => $"the server's policy forbids it{saying}",
                    NbdOptionReplyType.ErrorUnsupported => $"the server has none{saying}",
                    _ => $"the server refused it with error 0x{(uint)reply.Type:x8}{saying}",
                });
            }

            return;
        }

        RequireAck(reply);
        _channel.StartTls(credentials);
        _mayHaggle = true;
    }

    private NbdException NoTls(string reason) => new(
        $"{_peer}: TLS is required, but {reason}; this may also be someone between who wants to listen. Set up TLS on "
        + "the server, or connect without it (nbd in place of nbds in the URI)",
        Errno.EOPNOTSUPP);

    private NbdException TlsRequired(string subject, string saying) => _channel.IsEncrypted
        ? Violation($"it says that {subject} requires TLS, which is in use{saying}")
        : new NbdException(
            $"{_peer}: the server requires TLS for {subject}{saying}; connect with TLS (nbds in place of nbd "
            + "in the URI, --tls=require without a URI)",
            Errno.EOPNOTSUPP);
}
