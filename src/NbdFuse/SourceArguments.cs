using System.Globalization;
using Nbd;

namespace NbdFuse;

/// <summary>The part of the command line after the mountpoint: where the export is.</summary>
internal static class SourceArguments
{
    /// <summary>The endpoint, and what only a URI has a place for: the export's name and TLS; null without one.</summary>
    /// <param name="arguments">All words after the mountpoint.</param>
    /// <param name="warn">Told about what is odd but harmless.</param>
    internal static (NbdEndpoint Endpoint, NbdUri? Uri) Parse(IReadOnlyList<string> arguments, Action<string> warn)
    {
        if (arguments.Count == 0)
        {
            throw new UsageException("no SOURCE after the mountpoint: give an NBD URI, or [ CMD ARGS ... ]");
        }

        string mode = arguments[0];
        List<string> rest = arguments.Skip(1).ToList();
        switch (mode)
        {
            case "[":
                return (new NbdEndpoint.SocketActivation(Bracketed(rest)), null);
            case "--socket-activation" or "--systemd-socket-activation":
                return (new NbdEndpoint.SocketActivation(Command(mode, rest)), null);
            case "--command" or "--cmd":
                return (new NbdEndpoint.Command(Command(mode, rest)), null);
            case "--fd":
                Expect(mode, "N", rest, 1);
                return (new NbdEndpoint.Fd((int)Number(mode, rest[0], 0, int.MaxValue)), null);
            case "--tcp":
                Expect(mode, "HOST PORT", rest, 2);
                return (new NbdEndpoint.Tcp(rest[0], (int)Number(mode + " PORT", rest[1], 1, 65535)), null);
            case "--unix":
                Expect(mode, "SOCKET", rest, 1);
                return (new NbdEndpoint.Unix(rest[0]), null);
            case "--vsock":
                Expect(mode, "CID PORT", rest, 2);
                return (
                    new NbdEndpoint.Vsock(
                        (uint)Number(mode + " CID", rest[0], 0, uint.MaxValue),
                        (uint)Number(mode + " PORT", rest[1], 1, uint.MaxValue)),
                    null);
            case "--uri":
                Expect(mode, "URI", rest, 1);
                return Uri(rest[0], warn);
        }

        if (mode.StartsWith('-'))
        {
            throw new UsageException(
                $"unknown mode '{mode}' after the mountpoint (options go before the mountpoint)");
        }

        Expect(mode, "", rest, 0);
        return Uri(mode, warn);
    }

    private static (NbdEndpoint Endpoint, NbdUri Uri) Uri(string text, Action<string> warn)
    {
        if (!NbdUri.TryParse(text, out NbdUri? uri, out string? error))
        {
            throw new UsageException(error);
        }

        foreach (string warning in uri.Warnings)
        {
            warn(warning);
        }

        return (uri.Endpoint, uri);
    }

    private static List<string> Bracketed(List<string> words)
    {
        if (words.Count < 2 || words[^1] != "]")
        {
            throw new UsageException("'[' must be followed by a command, its arguments and, as the last word, ']'");
        }

        return words[..^1];
    }

    private static List<string> Command(string mode, List<string> words) =>
        words.Count > 0 ? words : throw new UsageException($"{mode} must be followed by a command");

    private static void Expect(string mode, string what, List<string> words, int count)
    {
        if (words.Count < count)
        {
            throw new UsageException($"{mode} must be followed by {what}");
        }

        if (words.Count > count)
        {
            throw new UsageException($"unexpected word '{words[count]}' after the source");
        }
    }

    private static long Number(string name, string text, long minimum, long maximum) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number)
        && number >= minimum && number <= maximum
            ? number
            : throw new UsageException(
                maximum == int.MaxValue
                    ? $"{name} must be a number, not '{text}'"
                    : $"{name} must be a number from {minimum} to {maximum}, not '{text}'");
}
