namespace Nbd.Protocol;

/// <summary>The magic numbers of the wire (proto.md, "Protocol phases").</summary>
public static class NbdMagic
{
    /// <summary>"NBDMAGIC", the first 8 bytes that any server sends.</summary>
    public const ulong Init = 0x4e42444d41474943;

    /// <summary>The second 8 bytes of an oldstyle server.</summary>
    public const ulong Oldstyle = 0x00420281861253;

    /// <summary>"IHAVEOPT": the second 8 bytes of a newstyle server, and the start of each option request.</summary>
    public const ulong Option = 0x49484156454f5054;

    /// <summary>The start of each option reply.</summary>
    public const ulong OptionReply = 0x0003e889045565a9;

    /// <summary>The start of a compact request.</summary>
    public const uint Request = 0x25609513;

    /// <summary>The start of a simple reply.</summary>
    public const uint SimpleReply = 0x67446698;

    /// <summary>The start of a structured reply chunk.</summary>
    public const uint StructuredReply = 0x668e33ef;

    /// <summary>The start of an extended request.</summary>
    public const uint ExtendedRequest = 0x21e41c71;

    /// <summary>The start of an extended reply chunk.</summary>
    public const uint ExtendedReply = 0x6e8a278c;
}
