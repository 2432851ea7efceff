namespace Nbd.Protocol;

/// <summary>
/// Handshake flags; the server's 16 bits and the client's 32 have the same meaning (proto.md, "Handshake flags"
/// and "Client flags").
/// </summary>
[Flags]
public enum NbdHandshakeFlags
{
    /// <summary>No flag.</summary>
    None = 0,

    /// <summary>Options other than EXPORT_NAME may be sent and have replies.</summary>
    FixedNewstyle = 1 << 0,

    /// <summary>The answer to EXPORT_NAME ends without its 124 zeroes.</summary>
    NoZeroes = 1 << 1,
}
