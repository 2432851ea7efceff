namespace IntegrationTests.Fixtures;

/// <summary>What the program under test can do, as its own lists say.</summary>
internal static class Offer
{
    private static readonly HashSet<string> s_options =
        [.. Tool.Run(Repository.NbdFuse, "--long-options").Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Trim())];

    public static bool Has(string option) => s_options.Contains(option);

    /// <summary>All modes of an option, or "default" while there is no such option.</summary>
    public static string[] Modes(string option, params string[] modes) => Has(option) ? modes : ["default"];

    /// <summary>The option with this mode; nothing for "default".</summary>
    public static string[] Argument(string option, string mode) => mode == "default" ? [] : [$"{option}={mode}"];
}
