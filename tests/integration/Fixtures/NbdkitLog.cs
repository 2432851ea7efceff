using System.Text.RegularExpressions;

namespace IntegrationTests.Fixtures;

/// <summary>One command as nbdkit's log filter saw it, in order of arrival.</summary>
internal sealed record LoggedCommand(int Connection, string Name, long Offset, long Length, bool ForceUnitAccess);

/// <summary>Reads the file of nbdkit's log filter (--filter=log ... logfile=PATH).</summary>
internal sealed partial class NbdkitLog(string path)
{
    public string Path { get; } = path;

    /// <summary>How many connections were opened so far.</summary>
    public int Connections => Lines().Count(line => line.Contains(" Connect export=", StringComparison.Ordinal));

    /// <summary>How many commands of this name were answered with success so far.</summary>
    public int Succeeded(string name) =>
        Lines().Count(line => line.Contains($" ...{name} id=", StringComparison.Ordinal)
            && line.EndsWith("return=0", StringComparison.Ordinal));

    public IReadOnlyList<LoggedCommand> Commands =>
        [.. Lines().Select(line => Command().Match(line)).Where(match => match.Success).Select(Parse)];

    private static LoggedCommand Parse(Match match) => new(
        int.Parse(match.Groups["connection"].Value),
        match.Groups["name"].Value,
        Number(match, "offset"),
        Number(match, "count"),
        match.Groups["fua"].Value == "1");

    private static long Number(Match match, string group) =>
        match.Groups[group].Success ? Convert.ToInt64(match.Groups[group].Value, 16) : 0;

    private string[] Lines() => File.Exists(Path) ? File.ReadAllLines(Path) : [];

    [GeneratedRegex(
        @"connection=(?<connection>\d+) (?<name>[A-Z]\w+) id=\d+( offset=0x(?<offset>[0-9a-f]+) count=0x(?<count>[0-9a-f]+))?(.* fua=(?<fua>\d))?")]
    private static partial Regex Command();
}
