using System.Text;

namespace UnitTests.Nbd;

/// <summary>
/// Frames of the NBD protocol as hexadecimal text, written from the specification's numbers and not from the code
/// under test.
/// </summary>
internal static class Frame
{
    internal const string InitMagic = "4e42444d41474943";
    internal const string OptionMagic = "49484156454f5054";
    internal const string OldstyleMagic = "0000420281861253";
    internal const string OptionReplyMagic = "0003e889045565a9";

    internal const uint Ack = 1;
    internal const uint Server = 2;
    internal const uint Info = 3;

    internal const uint ExportName = 1;
    internal const uint Abort = 2;
    internal const uint List = 3;
    internal const uint StartTls = 5;
    internal const uint Go = 7;
    internal const uint StructuredReply = 8;

    internal static string U16(int value) => ((ushort)value).ToString("x4");

    internal static string U32(uint value) => value.ToString("x8");

    internal static string U64(ulong value) => value.ToString("x16");

    internal static string Text(string text) => Convert.ToHexStringLower(Encoding.UTF8.GetBytes(text));

    internal static string Bytes(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    internal static string Zeroes(int count) => new('0', 2 * count);

    internal static string Newstyle(int flags = 3) => InitMagic + OptionMagic + U16(flags);

    internal static string Oldstyle(ulong size, int globalFlags, int flags) =>
        InitMagic + OldstyleMagic + U64(size) + U16(globalFlags) + U16(flags) + Zeroes(124);

    internal static string Option(uint option, string data = "") =>
        OptionMagic + U32(option) + U32((uint)data.Length / 2) + data;

    /// <summary>GO that asks for the block sizes.</summary>
    internal static string GoFor(string exportName)
    {
        string name = Text(exportName);
        return Option(Go, U32((uint)name.Length / 2) + name + U16(1) + U16(3));
    }

    internal static string OptionReply(uint option, uint type, string data = "") =>
        OptionReplyMagic + U32(option) + U32(type) + U32((uint)data.Length / 2) + data;

    internal static string ExportInfo(ulong size, int flags) =>
        OptionReply(Go, Info, U16(0) + U64(size) + U16(flags));

    internal static string BlockSizeInfo(uint minimum, uint preferred, uint maximum) =>
        OptionReply(Go, Info, U16(3) + U32(minimum) + U32(preferred) + U32(maximum));

    internal static string ServerEntry(string name, string description = "")
    {
        string text = Text(name);
        return OptionReply(List, Server, U32((uint)text.Length / 2) + text + Text(description));
    }

    internal static string SimpleReply(uint error, ulong cookie) => "67446698" + U32(error) + U64(cookie);

    internal static string Chunk(bool done, int type, ulong cookie, string payload = "") =>
        ChunkHeader(done, type, cookie, (uint)payload.Length / 2) + payload;

    internal static string ChunkHeader(bool done, int type, ulong cookie, uint length) =>
        "668e33ef" + U16(done ? 1 : 0) + U16(type) + U64(cookie) + U32(length);

    internal static string DataChunk(bool done, ulong cookie, ulong offset, ReadOnlySpan<byte> data) =>
        Chunk(done, 1, cookie, U64(offset) + Bytes(data));

    internal static string HoleChunk(bool done, ulong cookie, ulong offset, uint length) =>
        Chunk(done, 2, cookie, U64(offset) + U32(length));

    internal static string ErrorChunk(bool done, ulong cookie, uint error, string text = "") =>
        Chunk(done, 0x8001, cookie, U32(error) + U16(text.Length) + Text(text));
}
