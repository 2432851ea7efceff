using System.Buffers;
using System.Text;
using Nbd.Protocol;

namespace Nbd;

/// <summary>The replies to one option, put together to be sent at once.</summary>
internal sealed class OptionReplies
{
    private readonly ArrayBufferWriter<byte> _bytes = new(256);
    private NbdOption _option;

    public ReadOnlySpan<byte> Bytes => _bytes.WrittenSpan;

    public void Begin(NbdOption option)
    {
        _option = option;
        _bytes.ResetWrittenCount();
    }

    public void Add(NbdOptionReplyType type, ReadOnlySpan<byte> data = default, ReadOnlySpan<byte> more = default)
    {
        new NbdOptionReply(_option, type, (uint)(data.Length + more.Length))
            .Encode(_bytes.GetSpan(NbdOptionReply.SizeBytes));
        _bytes.Advance(NbdOptionReply.SizeBytes);
        _bytes.Write(data);
        _bytes.Write(more);
    }

    public void AddError(NbdOptionReplyType type, string text) => Add(type, Encoding.UTF8.GetBytes(text));

    /// <summary>Adds bytes without a header: the answer to EXPORT_NAME.</summary>
    public void AddBare(ReadOnlySpan<byte> bytes) => _bytes.Write(bytes);
}
