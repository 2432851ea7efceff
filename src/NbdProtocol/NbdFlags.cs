namespace Nbd.Protocol;

/// <summary>Commands of the transmission phase (proto.md, "Request types").</summary>
public enum NbdCommandType : ushort
{
    /// <summary>NBD_CMD_READ.</summary>
    Read = 0,

    /// <summary>NBD_CMD_WRITE.</summary>
    Write = 1,

    /// <summary>NBD_CMD_DISC: has no reply.</summary>
    Disconnect = 2,

    /// <summary>NBD_CMD_FLUSH.</summary>
    Flush = 3,

    /// <summary>NBD_CMD_TRIM: says nothing about the content afterwards.</summary>
    Trim = 4,

    /// <summary>NBD_CMD_CACHE.</summary>
    Cache = 5,

    /// <summary>NBD_CMD_WRITE_ZEROES.</summary>
    WriteZeroes = 6,

    /// <summary>NBD_CMD_BLOCK_STATUS.</summary>
    BlockStatus = 7,
}

/// <summary>Flags of a command (proto.md, "Command flags").</summary>
[Flags]
public enum NbdCommandFlags : ushort
{
    /// <summary>No flag.</summary>
    None = 0,

    /// <summary>Durable before it is answered.</summary>
    ForceUnitAccess = 1 << 0,

    /// <summary>WRITE_ZEROES: stay allocated.</summary>
    NoHole = 1 << 1,

    /// <summary>READ: answer in one chunk.</summary>
    DontFragment = 1 << 2,

    /// <summary>BLOCK_STATUS: one extent only.</summary>
    RequestOne = 1 << 3,

    /// <summary>WRITE_ZEROES: fail rather than be slow.</summary>
    FastZero = 1 << 4,

    /// <summary>With extended headers: the length is that of a payload that follows.</summary>
    PayloadLength = 1 << 5,
}

/// <summary>What an export can do (proto.md, "Transmission flags").</summary>
[Flags]
public enum NbdTransmissionFlags : ushort
{
    /// <summary>No flag.</summary>
    None = 0,

    /// <summary>Always set by a valid server.</summary>
    HasFlags = 1 << 0,

    /// <summary>The export refuses every change.</summary>
    ReadOnly = 1 << 1,

    /// <summary>FLUSH is supported.</summary>
    SendFlush = 1 << 2,

    /// <summary>FUA is supported.</summary>
    SendForceUnitAccess = 1 << 3,

    /// <summary>The medium is rotational.</summary>
    Rotational = 1 << 4,

    /// <summary>TRIM is supported.</summary>
    SendTrim = 1 << 5,

    /// <summary>WRITE_ZEROES (and NO_HOLE) is supported.</summary>
    SendWriteZeroes = 1 << 6,

    /// <summary>DF is supported.</summary>
    SendDontFragment = 1 << 7,

    /// <summary>FLUSH and FUA of one connection cover the writes of all of them.</summary>
    CanMultiConn = 1 << 8,

    /// <summary>CACHE is supported.</summary>
    SendCache = 1 << 10,

    /// <summary>FAST_ZERO is supported.</summary>
    SendFastZero = 1 << 11,

    /// <summary>With extended headers: BLOCK_STATUS takes a list of contexts as its payload.</summary>
    BlockStatusPayload = 1 << 12,
}
