using Nbd.Protocol;

namespace Nbd;

/// <summary>The error that a server answered an option with.</summary>
/// <param name="Type">Which.</param>
/// <param name="Text">What the server says about it, made printable; may be empty.</param>
internal readonly record struct OptionError(NbdOptionReplyType Type, string Text)
{
    /// <summary><see cref="Text"/> as an insertion into a message.</summary>
    internal string Saying => Text.Length == 0 ? "" : $" (the server says: {Text})";
}
