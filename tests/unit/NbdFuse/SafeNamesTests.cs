using System.Text;
using NbdFuse;

namespace UnitTests.NbdFuseTests;

public sealed class SafeNamesTests
{
    [Theory]
    [InlineData("disk", "disk")]
    [InlineData("", "default")]
    [InlineData("/", "default")]
    [InlineData("a/b/c", "a/b/c")]
    [InlineData("/dev//vg/lv/", "dev/vg/lv")]
    [InlineData("..", "%2E%2E")]
    [InlineData("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd")]
    [InlineData("./x", "%2E/x")]
    [InlineData("...", "...")]
    [InlineData("line\nbreak\u001b[0m\u007f\u0085", "line%0Abreak%1B[0m%7F%85")]
    [InlineData("with space & ünïcode", "with space & ünïcode")]
    public void A_name_becomes_a_path_that_is_safe(string name, string path)
    {
        Assert.Equal(path, Choose(name)[0]);
    }

    [Fact]
    public void Names_that_look_alike_do_not_hide_each_other()
    {
        Assert.Equal(
            ["a~2", "a/b", "default", "default~2", "c", "c~2", "c~3", "a~2~2"],
            Choose("a", "a/b", "", "default", "c", "/c", "c/", "a~2"));
    }

    [Fact]
    public void Long_names_stay_within_the_limits_and_different()
    {
        string[] names = [new string('x', 4000), new string('x', 4001), new string('ü', 200) + "1", new string('ü', 200) + "2"];

        string[] paths = Choose(names);

        Assert.Equal(4, paths.Distinct().Count());
        Assert.All(paths, path => Assert.InRange(Encoding.UTF8.GetByteCount(path), 200, 255));
    }

    [Fact]
    public void Deep_names_end_in_a_file()
    {
        string path = Choose(string.Join('/', Enumerable.Repeat("d", 2048)))[0];

        Assert.Equal(32, path.Split('/').Length);
        Assert.InRange(Encoding.UTF8.GetByteCount(path.Split('/')[^1]), 200, 255);
    }

    [Fact]
    public void Every_path_is_a_file_or_a_directory_but_not_both()
    {
        Random random = new(7);
        for (int round = 0; round < 300; round++)
        {
            string[] names = [.. Enumerable.Range(0, 40).Select(_ => Name(random)).Distinct()];

            string[] paths = Choose(names);

            Assert.Equal(paths.Length, paths.Distinct().Count());
            Assert.DoesNotContain(paths, path => paths.Any(other => other.StartsWith(path + "/", StringComparison.Ordinal)));
        }
    }

    private static string Name(Random random) =>
        string.Concat(Enumerable.Range(0, random.Next(6)).Select(_ => "ab/.~"[random.Next(5)]));

    private static string[] Choose(params string[] names)
    {
        Dictionary<string, string[]> paths = SafeNames.Choose(names);
        return [.. names.Select(name => string.Join('/', paths[name]))];
    }
}
