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
    internal const uint MetaContext = 4;

    internal const uint ExportName = 1;
    internal const uint Abort = 2;
    internal const uint List = 3;
    internal const uint StartTls = 5;
    internal const uint InfoOption = 6;
    internal const uint Go = 7;
    internal const uint StructuredReply = 8;
    internal const uint ListMetaContext = 9;
    internal const uint SetMetaContext = 10;
    internal const uint ExtendedHeaders = 11;

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

    internal static string LengthAndText(string text) => U32((uint)Text(text).Length / 2) + Text(text);

    /// <summary>INFO that asks for everything.</summary>
    internal static string InfoFor(string exportName) =>
        Option(InfoOption, LengthAndText(exportName) + U16(3) + U16(1) + U16(2) + U16(3));

    /// <summary>LIST_META_CONTEXT or SET_META_CONTEXT.</summary>
    internal static string MetaContextFor(uint option, string exportName, params string[] queries) => Option(
        option,
        LengthAndText(exportName) + U32((uint)queries.Length) + string.Concat(queries.Select(LengthAndText)));

    internal static string MetaContextReply(uint option, uint id, string name) =>
        OptionReply(option, MetaContext, U32(id) + Text(name));

    /// <summary>A chunk with the payload, in one of the two styles.</summary>
    internal static string AnyChunk(FakeRequest request, bool done, int type, string payload = "") => request.IsExtended
        ? ExtendedHeader(done, type, request.Cookie, request.Offset, (ulong)payload.Length / 2) + payload
        : Chunk(done, type, request.Cookie, payload);

    internal static string ExtendedHeader(bool done, int type, ulong cookie, ulong offset, ulong length) =>
        "6e8a278c" + U16(done ? 1 : 0) + U16(type) + U64(cookie) + U64(offset) + U64(length);

    /// <summary>The answer to a BLOCK_STATUS for one context.</summary>
    internal static string Status(
        FakeRequest request, bool done, uint id, params (ulong Length, ulong Flags)[] extents) => request.IsExtended
        ? AnyChunk(request, done, 6, U32(id) + U32((uint)extents.Length)
            + string.Concat(extents.Select(e => U64(e.Length) + U64(e.Flags))))
        : AnyChunk(request, done, 5, U32(id)
            + string.Concat(extents.Select(e => U32((uint)e.Length) + U32((uint)e.Flags))));
}
