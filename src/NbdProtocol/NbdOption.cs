namespace Nbd.Protocol;

/// <summary>Options that a client sends during the handshake (proto.md, "Option types").</summary>
public enum NbdOption : uint
{
    /// <summary>NBD_OPT_EXPORT_NAME: enter transmission; has no error reply.</summary>
    ExportName = 1,

    /// <summary>NBD_OPT_ABORT: leave.</summary>
    Abort = 2,

    /// <summary>NBD_OPT_LIST: names of the exports.</summary>
    List = 3,

    /// <summary>NBD_OPT_STARTTLS.</summary>
    StartTls = 5,

    /// <summary>NBD_OPT_INFO: as GO, but stay in the handshake.</summary>
    Info = 6,

    /// <summary>NBD_OPT_GO: learn about an export and enter transmission.</summary>
    Go = 7,

    /// <summary>NBD_OPT_STRUCTURED_REPLY.</summary>
    StructuredReply = 8,

    /// <summary>NBD_OPT_LIST_META_CONTEXT.</summary>
    ListMetaContext = 9,

    /// <summary>NBD_OPT_SET_META_CONTEXT.</summary>
    SetMetaContext = 10,

    /// <summary>NBD_OPT_EXTENDED_HEADERS.</summary>
    ExtendedHeaders = 11,
}
