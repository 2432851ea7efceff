using System.Text.RegularExpressions;

namespace UnitTests.Nbd;

/// <summary>docs/nbd-support.md names a test for all that is supported, and each test that it names exists.</summary>
public sealed partial class SupportTableTests
{
    [Fact]
    public void Each_test_that_is_named_exists()
    {
        Dictionary<string, string> classes = [];
        foreach (string file in Directory.EnumerateFiles(Sources.At("tests"), "*Tests.cs", SearchOption.AllDirectories))
        {
            string name = Path.GetFileNameWithoutExtension(file);
            classes[name] = classes.GetValueOrDefault(name) + File.ReadAllText(file);
        }

        List<string> missing = [];
        foreach (Row row in Rows())
        {
            foreach (string test in TestName().Matches(row.Tests).Select(match => match.Groups[1].Value))
            {
                string[] parts = test.Split('.');
                bool exists = classes.TryGetValue(parts[0], out string? source)
                    && (parts.Length == 1 || source.Contains($" {parts[1]}(", StringComparison.Ordinal));
                if (!exists)
                {
                    missing.Add(test);
                }
            }
        }

        Assert.Empty(missing);
    }

    [Fact]
    public void All_that_is_supported_names_a_test()
    {
        List<Row> rows = Rows();

        Assert.True(rows.Count > 90, $"only {rows.Count} rows");
        Assert.All(
            rows.Where(row => !row.Supported.StartsWith("no", StringComparison.Ordinal)),
            row => Assert.Matches(TestName(), row.Tests));
    }

    private static List<Row> Rows() =>
    [
        .. File.ReadLines(Sources.At("docs/nbd-support.md"))
            .Where(line => line.StartsWith("| ", StringComparison.Ordinal) && line != "| item | supported | test |")
            .Select(line => line.Trim('|').Split('|', StringSplitOptions.TrimEntries))
            .Select(cells => new Row(cells[0], cells[1], cells[2])),
    ];

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex TestName();

    private sealed record Row(string Item, string Supported, string Tests);
}
