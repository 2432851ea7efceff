using Linux;
using Nbd.Protocol;

namespace Nbd;

/// <summary>
/// What a server said about a command that it failed: the first error chunk of its reply, if that has a text or an offset
/// (proto.md, "Structured reply types"). Simple replies say nothing.
/// </summary>
/// <param name="Command">The command.</param>
/// <param name="Offset">Its first byte.</param>
/// <param name="Length">Its length, in bytes.</param>
/// <param name="Errno">The error, as the completion gets it.</param>
/// <param name="Text">
/// The server's text: one line without control characters, cut after 300 characters. Empty when it only told an offset.
/// </param>
/// <param name="ErrorOffset">The byte of the export that the error is about; null when the server did not say.</param>
public sealed record NbdServerError(
    NbdCommandType Command, ulong Offset, ulong Length, Errno Errno, string Text, ulong? ErrorOffset)
{
    /// <summary>What the server said, as messages show it.</summary>
    internal string Said => (Text, ErrorOffset) switch
    {
        (_, null) => $"server said: {Text}",
        ("", _) => $"server said: error at offset {ErrorOffset}",
        _ => $"server said: {Text} (at offset {ErrorOffset})",
    };

    /// <summary>The command, the error, and what the server said.</summary>
    public override string ToString() =>
        $"{NbdClient.Describe(Command, Offset, Length)}: {LinuxException.Describe(Errno)}; {Said}";
}
