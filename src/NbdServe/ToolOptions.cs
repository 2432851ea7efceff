using System.CommandLine;

namespace NbdServe;

/// <summary>How System.CommandLine is used here.</summary>
internal static class ToolOptions
{
    /// <exception cref="UsageException">The words do not fit the command.</exception>
    internal static ParseResult Parse(Command command, IReadOnlyList<string> words)
    {
        ParseResult parsed = command.Parse(words, new ParserConfiguration { ResponseFileTokenReplacer = null });
        return parsed.Errors.Count == 0 ? parsed : throw new UsageException(parsed.Errors[0].Message);
    }
}
