using System.Reflection;

namespace UnitTests;

/// <summary>
/// The public face of the libraries is what is written down in tests/unit/PublicApi/: nobody changes it without
/// noticing. After a wanted change "make api" writes it down anew.
/// </summary>
public sealed class PublicApiTests
{
    private const string Accept = "NBD_ACCEPT_API";

    public static TheoryData<string> Libraries => ["NbdClient", "NbdServer", "NbdProtocol", "Linux"];

    [Theory]
    [MemberData(nameof(Libraries))]
    public void The_public_face_is_the_one_that_is_written_down(string library)
    {
        string file = Path.Combine(Sources.At("tests/unit/PublicApi"), $"{library}.txt");
        string face = PublicApi.Describe(Assembly.Load(library));
        if (Environment.GetEnvironmentVariable(Accept) == "1")
        {
            File.WriteAllText(file, face);
        }

        Assert.True(
            File.Exists(file) && File.ReadAllText(file) == face,
            $"the public face of {library} differs from {file}; if that is wanted, run: make api\n"
            + Difference(File.Exists(file) ? File.ReadAllLines(file) : [], face.TrimEnd('\n').Split('\n')));
    }

    private static string Difference(string[] before, string[] after) => string.Join(
        '\n',
        before.Except(after).Select(line => $"- {line.Trim()}").Concat(after.Except(before).Select(line => $"+ {line.Trim()}")));
}
