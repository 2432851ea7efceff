using System.Buffers.Binary;

namespace Nbd.Protocol;

/// <summary>Layout of what a server sends before any option (proto.md, "Handshake phase").</summary>
public static class NbdGreeting
{
    /// <summary>Both magic numbers, 8 bytes each.</summary>
    public const int MagicBytes = 16;

    /// <summary>The server's handshake flags, which follow the magic numbers of a newstyle server.</summary>
    public const int ServerFlagsBytes = 2;

    /// <summary>The client's answer to them.</summary>
    public const int ClientFlagsBytes = 4;

    /// <summary>What follows the magic numbers of an oldstyle server.</summary>
    public const int OldstyleBytes = 136;

    /// <summary>Size and transmission flags: the answer to EXPORT_NAME.</summary>
    public const int ExportNameReplyBytes = 10;

    /// <summary>The zeroes after it, unless NO_ZEROES was agreed.</summary>
    public const int ExportNameZeroesBytes = 124;

    /// <summary>Writes the client's flags.</summary>
    public static void EncodeClientFlags(Span<byte> destination, NbdHandshakeFlags flags) =>
        BinaryPrimitives.WriteUInt32BigEndian(destination, (uint)flags);

    /// <summary>Reads the server's flags.</summary>
    public static NbdHandshakeFlags DecodeServerFlags(ReadOnlySpan<byte> source) =>
        (NbdHandshakeFlags)BinaryPrimitives.ReadUInt16BigEndian(source);

    /// <summary>Reads what follows the magic numbers of an oldstyle server.</summary>
    /// <param name="source">At least the first 12 bytes.</param>
    /// <param name="globalFlags">Must be zero.</param>
    public static NbdExportInfo DecodeOldstyle(ReadOnlySpan<byte> source, out ushort globalFlags)
    {
        globalFlags = BinaryPrimitives.ReadUInt16BigEndian(source[8..]);
        return new(
            BinaryPrimitives.ReadUInt64BigEndian(source),
            (NbdTransmissionFlags)BinaryPrimitives.ReadUInt16BigEndian(source[10..]));
    }
}
