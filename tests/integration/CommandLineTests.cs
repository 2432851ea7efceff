namespace IntegrationTests;

/// <summary>Command lines that are wrong, and those that only ask for information.</summary>
public sealed class CommandLineTests : IntegrationTest
{
    /// <summary>
    /// A part of the message, and the command line. DIR is an empty folder, FOLDER the test's own.
    /// </summary>
    public static TheoryData<string, string[]> Wrong() => new()
    {
        { "MOUNTPOINT", [] },
        { "SOURCE", ["DIR"] },
        { "--no-such-option", ["--no-such-option", "DIR", "nbd://localhost"] },
        { "-X", ["-X", "DIR", "nbd://localhost"] },
        { "1024", ["-C", "0", "DIR", "nbd://localhost"] },
        { "1024", ["-C", "1025", "DIR", "nbd://localhost"] },
        { "4x", ["-C", "4x", "DIR", "nbd://localhost"] },
        { "-1", ["--connections", "-1", "DIR", "nbd://localhost"] },
        { "--connect-timeout", ["--connect-timeout", "never", "DIR", "nbd://localhost"] },
        { "--connect-timeout", ["--connect-timeout", "-1", "DIR", "nbd://localhost"] },
        { "-P", ["-P"] },
        { "-o", ["-o"] },
        { "./no-such-folder", ["no-such-folder", "nbd://localhost"] },
        { "FOLDER/missing/file", ["FOLDER/missing/file", "nbd://localhost"] },
        { "FOLDER/file/name", ["FOLDER/file/name", "nbd://localhost"] },
        { "]", ["DIR", "[", "qemu-nbd"] },
        { "[", ["DIR", "[", "]"] },
        { "--command", ["DIR", "--command"] },
        { "--cmd", ["DIR", "--cmd"] },
        { "--socket-activation", ["DIR", "--socket-activation"] },
        { "--systemd-socket-activation", ["DIR", "--systemd-socket-activation"] },
        { "--fd", ["DIR", "--fd"] },
        { "3x", ["DIR", "--fd", "3x"] },
        { "99", ["DIR", "--fd", "99"] },
        { "--tcp", ["DIR", "--tcp", "localhost"] },
        { "extra", ["DIR", "--tcp", "localhost", "10809", "extra"] },
        { "no-such-service", ["DIR", "--tcp", "localhost", "no-such-service"] },
        { "host.invalid", ["DIR", "--tcp", "host.invalid", "10809"] },
        { "--unix", ["DIR", "--unix"] },
        { "FOLDER/no.sock", ["DIR", "--unix", "FOLDER/no.sock"] },
        { "--vsock", ["DIR", "--vsock", "2"] },
        { "connect to vsock:2147483632:10809: ", ["--connect-timeout", "5", "DIR", "--vsock", "2147483632", "10809"] },
        { "off, on or require", ["--tls=maybe", "DIR", "--unix", "/s"] },
        { "nbds in place of nbd", ["--tls=require", "DIR", "nbd://localhost/"] },
        { "--uri", ["DIR", "--uri"] },
        { "extra", ["DIR", "nbd://localhost", "extra"] },
        { "http", ["DIR", "http://localhost/"] },
        { "no-uri", ["DIR", "no-uri"] },
        { "(tls-hostname)", ["DIR", "nbds+unix:///?socket=/s"] },
        { "FOLDER/ca-cert.pem does not exist", ["DIR", "nbds://localhost/?tls-certificates=FOLDER"] },
        { "FOLDER/no.psk", ["DIR", "nbds://localhost/?tls-psk-file=FOLDER/no.psk"] },
        { "connect to vsock:2147483632:10809: ", ["--connect-timeout", "5", "DIR", "nbds+vsock://2147483632/?tls-verify-peer=0"] },
        { "socket", ["DIR", "nbd+unix:///"] },
        { "99999", ["DIR", "nbd://localhost:99999/"] },
        { "--such-source", ["DIR", "--such-source", "x"] },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_wrong_one_is_told_and_the_exit_status_is_1(string message, string[] arguments)
    {
        string mountPoint = Folder.Folder("dir");
        File.WriteAllText(Folder.FileAt("file"), "");
        string Fill(string text) => text
            .Replace("DIR", mountPoint, StringComparison.Ordinal).Replace("FOLDER", Folder.Path, StringComparison.Ordinal);

        (int exitCode, string output) = RunNbdFuse([.. arguments.Select(Fill)]);

        Assert.Equal(1, exitCode);
        Assert.StartsWith("nbdfuse: ", output);
        Assert.Contains(Fill(message), output);
        Assert.False(MountTable.IsMounted(mountPoint));
        Assert.DoesNotContain("   at ", output);
    }

    [Fact]
    public void Help_names_every_option()
    {
        (int exitCode, string help) = RunNbdFuse("--help");

        Assert.Equal(0, exitCode);
        Assert.Contains("MOUNTPOINT", help);
        string[] named = ["--export", "--connect-timeout", "--socket-activation", "--command", "--fd", "--tcp", "--unix"];
        foreach (string option in named.Concat(Options("--short-options")))
        {
            Assert.Contains(option, help);
        }
    }

    [Theory]
    [InlineData("--version")]
    [InlineData("-V")]
    public void The_version_is_one_line_with_the_name(string option)
    {
        (int exitCode, string output) = RunNbdFuse(option);

        Assert.Equal(0, exitCode);
        Assert.Matches(@"^nbdfuse \d+\.\d+\.\d+\S*$", Assert.Single(output.TrimEnd().Split('\n')));
    }

    [Fact]
    public void The_options_for_completion_are_those_of_libnbd_and_ours()
    {
        string[] longOptions = Options("--long-options");
        string[] shortOptions = Options("--short-options");

        Assert.Superset(
            new HashSet<string>([
                "--help", "--fuse-help", "--connections", "--pidfile", "--pid-file", "--readonly", "--read-only", "--verbose",
                "--version", "--export", "--connect-timeout",
            ]),
            longOptions.ToHashSet());
        Assert.Superset(new HashSet<string>(["-C", "-d", "-o", "-P", "-r", "-s", "-v", "-V"]), shortOptions.ToHashSet());
        Assert.All(longOptions, option => Assert.Matches("^--[a-z-]+$", option));
        Assert.All(shortOptions, option => Assert.Matches("^-[A-Za-z]$", option));
    }

    [Fact]
    public void The_fuse_help_tells_of_mount_options()
    {
        (int exitCode, string output) = RunNbdFuse("--fuse-help");

        Assert.Equal(0, exitCode);
        Assert.Contains("allow_other", output);
    }

    [Fact]
    public void The_manual_page_has_every_option_and_no_other()
    {
        string page = File.ReadAllText(Path.Combine(Repository.Root, "docs/man/nbdfuse.1.scd"));
        string options = page[page.IndexOf("# OPTIONS", StringComparison.Ordinal)..];
        options = options[..options.IndexOf("\n# ", 3, StringComparison.Ordinal)];
        string[] documented =
        [
            .. options.Split('\n').Where(line => line.StartsWith("*-", StringComparison.Ordinal))
                .SelectMany(line => line.Split('*', ' ', ',')).Where(word => word.StartsWith('-')),
        ];

        Assert.Equal(
            Options("--long-options").Concat(Options("--short-options")).Order(StringComparer.Ordinal),
            documented.Except(["--long-options", "--short-options"]).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Options_behind_the_mountpoint_belong_to_the_source()
    {
        NbdFuseMount mount = Mount(
            "--command", "bash", "-c", "[ \"$*\" = '-r --help -C 0' ] && exec nbdkit -s pattern 64K", "bash", "-r", "--help", "-C", "0");

        Assert.Equal(65536, new FileInfo(mount.File).Length);
    }

    [Theory]
    [InlineData("-s")]
    [InlineData("-C1")]
    [InlineData("--connections=2")]
    public void Other_spellings_and_accepted_options_work(string option)
    {
        NbdFuseMount mount = Mount(new MountRequest { Options = [option], Source = [Nbdkit("pattern", "64K").Uri] });

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Theory]
    [InlineData("-v")]
    [InlineData("--verbose")]
    [InlineData("-d")]
    public void Verbose_tells_what_goes_on(string option)
    {
        NbdFuseMount mount = Mount(new MountRequest { Options = [option], Source = [Nbdkit("pattern", "64K").Uri] });

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
        mount.Unmount();
        Assert.NotEqual("", mount.Log);
    }

    private string[] Options(string kind)
    {
        (int exitCode, string output) = RunNbdFuse(kind);
        Assert.Equal(0, exitCode);
        return output.TrimEnd().Split('\n');
    }
}
