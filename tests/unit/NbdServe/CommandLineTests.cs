using System.Net;
using NbdServe;
using NbdServe.Backends;

namespace UnitTests.NbdServeTests;

public sealed class CommandLineTests
{
    private static Invocation Parse(params string[] arguments) => CommandLine.Parse(arguments, TextWriter.Null)!;

    private static string Refused(params string[] arguments) =>
        Assert.Throws<UsageException>(() => Parse(arguments)).Message;

    private static string Text(params string[] arguments)
    {
        StringWriter output = new();
        Assert.Null(CommandLine.Parse(arguments, output));
        return output.ToString();
    }

    [Theory]
    [InlineData("0", 0)]
    [InlineData("1", 1)]
    [InlineData("512", 512)]
    [InlineData("4k", 4096)]
    [InlineData("1M", 1 << 20)]
    [InlineData("1MiB", 1 << 20)]
    [InlineData("2G", 2L << 30)]
    [InlineData("3T", 3L << 40)]
    [InlineData("1P", 1L << 50)]
    [InlineData("7E", 7L << 60)]
    [InlineData("9223372036854775807", long.MaxValue)]
    public void Sizes_are_human(string text, long bytes) =>
        Assert.Equal(bytes, Parse("memory", text).Exports[0].Backend.SizeBytes);

    [Theory]
    [InlineData("")]
    [InlineData("K")]
    [InlineData("1X")]
    [InlineData("1.5G")]
    [InlineData("1iB")]
    [InlineData("8E")]
    [InlineData("9223372036854775808")]
    [InlineData("99999999999999999999")]
    public void A_bad_size_is_named(string text) => Assert.Contains("memory SIZE", Refused("memory", text));

    [Fact]
    public void Options_stand_anywhere()
    {
        Invocation invocation = Parse("-r", "--unix", "/run/s", "memory", "-v", "1G", "--pidfile", "p");

        Assert.True(invocation.ReadOnly);
        Assert.True(invocation.Verbose);
        Assert.Equal(("/run/s", "p"), (invocation.UnixSocket, invocation.PidFile));
        Assert.Equal(("", "memory"), (invocation.Exports[0].Name, invocation.Exports[0].Backend.Kind));
    }

    [Fact]
    public void Sparse_random_has_its_options()
    {
        SparseRandomOptions options = Parse(
            "sparse-random", "1T", "--seed", "-7", "--percent=0.5", "--runlength", "1M", "--random-content")
            .Exports[0].Backend.SparseRandom!;

        Assert.Equal(
            new SparseRandomOptions
            {
                SizeBytes = 1L << 40,
                Seed = -7,
                Percent = 0.5m,
                RunLengthBytes = 1 << 20,
                IsRandomContent = true,
            },
            options);
    }

    [Fact]
    public void A_file_is_created_on_demand()
    {
        Assert.Null(Parse("file", "a b").Exports[0].Backend.CreateBytes);
        BackendArguments backend = Parse("file", "a b", "--create", "1G").Exports[0].Backend;
        Assert.Equal(("a b", 1L << 30), (backend.Path, backend.CreateBytes));
    }

    [Fact]
    public void There_may_be_several_exports()
    {
        Invocation invocation = Parse(
            "memory", "1G", "--export", "first", "--export", "b=file \"/a b\" --create 1M", "--export", "=null 1K");

        Assert.Equal(["first", "b", ""], invocation.Exports.Select(export => export.Name));
        Assert.Equal(["memory", "file", "null"], invocation.Exports.Select(export => export.Backend.Kind));
        Assert.Equal(("/a b", 1L << 20), (invocation.Exports[1].Backend.Path, invocation.Exports[1].Backend.CreateBytes));
    }

    [Theory]
    [InlineData("10809", "127.0.0.1", 10809)]
    [InlineData("0", "127.0.0.1", 0)]
    [InlineData("localhost:1", "127.0.0.1", 1)]
    [InlineData("0.0.0.0:65535", "0.0.0.0", 65535)]
    [InlineData("[::1]:7", "::1", 7)]
    public void A_tcp_address_is_loopback_unless_given(string text, string address, int port) =>
        Assert.Equal((IPAddress.Parse(address), port), Parse("null", "1", "--tcp", text).Tcp);

    [Theory]
    [InlineData("no BACKEND")]
    [InlineData("no BACKEND", "-v")]
    [InlineData("no BACKEND", "--export", "name")]
    [InlineData("unknown backend 'memroy'", "memroy", "1G")]
    [InlineData("unknown backend 'memroy'", "--export", "a=memroy 1G")]
    [InlineData("followed by SIZE", "memory")]
    [InlineData("followed by PATH", "file")]
    [InlineData("unexpected word '2G'", "memory", "1G", "2G")]
    [InlineData("unknown option '--frobnicate'", "memory", "1G", "--frobnicate")]
    [InlineData("unknown option '-x'", "memory", "1G", "-x")]
    [InlineData("--seed is for", "memory", "1G", "--seed", "1")]
    [InlineData("--random-content is for", "memory", "1G", "--random-content")]
    [InlineData("--create is for", "null", "1G", "--create", "1G")]
    [InlineData("--seed must", "sparse-random", "1G", "--seed", "x")]
    [InlineData("--percent must", "sparse-random", "1G", "--percent", "0")]
    [InlineData("--percent must", "sparse-random", "1G", "--percent", "101")]
    [InlineData("--runlength must", "sparse-random", "1G", "--runlength", "x")]
    [InlineData("--tcp must", "null", "1", "--tcp", "65536")]
    [InlineData("--tcp must", "null", "1", "--tcp", "example.com:1")]
    [InlineData("--tls must", "null", "1", "--tls", "maybe")]
    [InlineData("--tls needs", "null", "1", "--tls", "on")]
    [InlineData("--tls-verify-peer needs", "null", "1", "--tls-verify-peer")]
    [InlineData("--tls-verify-peer needs", "null", "1", "--tls-certificates", "d", "--tls", "off", "--tls-verify-peer")]
    [InlineData("-s is for one client", "null", "1", "-s", "--run", "true")]
    [InlineData("-s is for one client", "null", "1", "-s", "--tcp", "1")]
    [InlineData("two exports have the name 'a'", "null", "1", "--export", "a", "--export", "a=null 1")]
    [InlineData("only one --export", "null", "1", "--export", "a", "--export", "b")]
    public void A_wrong_command_line_is_one_line_that_says_why(string words, params string[] arguments)
    {
        string message = Refused(arguments);
        Assert.Contains(words, message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void Tls_is_required_when_there_are_certificates()
    {
        Assert.Equal(TlsMode.Off, Parse("null", "1").Tls);
        Assert.Equal(TlsMode.Require, Parse("null", "1", "--tls-certificates", "d").Tls);
        Assert.Equal(TlsMode.On, Parse("null", "1", "--tls-certificates", "d", "--tls", "on").Tls);
    }

    [Fact]
    public void Texts_are_printed_on_demand()
    {
        Assert.Contains("sparse-random SIZE", Text("--help"));
        Assert.StartsWith("nbdserve 0.", Text("--version"));
        string[] longOptions = Text("--long-options").Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Contains("--tls-certificates", longOptions);
        Assert.DoesNotContain("--long-options", longOptions);
        Assert.All(Text("--short-options").Trim().Split('\n'), name => Assert.Equal(2, name.Length));
    }
}
