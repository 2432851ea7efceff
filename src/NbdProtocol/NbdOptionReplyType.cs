namespace Nbd.Protocol;

/// <summary>What an option reply says (proto.md, "Option reply types").</summary>
public enum NbdOptionReplyType : uint
{
    /// <summary>NBD_REP_ACK: done.</summary>
    Ack = 1,

    /// <summary>NBD_REP_SERVER: one export of a LIST.</summary>
    Server = 2,

    /// <summary>NBD_REP_INFO: one piece of information of INFO or GO.</summary>
    Info = 3,

    /// <summary>NBD_REP_META_CONTEXT: one context.</summary>
    MetaContext = 4,

    /// <summary>NBD_REP_ERR_UNSUP: the server does not know the option.</summary>
    ErrorUnsupported = 0x80000001,

    /// <summary>NBD_REP_ERR_POLICY: the server's configuration forbids it.</summary>
    ErrorPolicy = 0x80000002,

    /// <summary>NBD_REP_ERR_INVALID: the request makes no sense to the server.</summary>
    ErrorInvalid = 0x80000003,

    /// <summary>NBD_REP_ERR_PLATFORM: the server's platform lacks it.</summary>
    ErrorPlatform = 0x80000004,

    /// <summary>NBD_REP_ERR_TLS_REQD: only after STARTTLS.</summary>
    ErrorTlsRequired = 0x80000005,

    /// <summary>NBD_REP_ERR_UNKNOWN: no such export.</summary>
    ErrorUnknown = 0x80000006,

    /// <summary>NBD_REP_ERR_SHUTDOWN: the server is about to end.</summary>
    ErrorShutdown = 0x80000007,

    /// <summary>NBD_REP_ERR_BLOCK_SIZE_REQD: only for clients that ask for block sizes.</summary>
    ErrorBlockSizeRequired = 0x80000008,

    /// <summary>NBD_REP_ERR_TOO_BIG: the request is too long for the server.</summary>
    ErrorTooBig = 0x80000009,

    /// <summary>NBD_REP_ERR_EXT_HEADER_REQD: only with extended headers.</summary>
    ErrorExtendedHeadersRequired = 0x8000000a,
}
