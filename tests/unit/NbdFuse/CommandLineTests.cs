using Nbd;
using NbdFuse;

namespace UnitTests.NbdFuseTests;

public sealed class CommandLineTests
{
    private static Invocation Parse(params string[] arguments) =>
        CommandLine.Parse(arguments, TextWriter.Null, _ => { })!;

    private static string Refused(params string[] arguments) =>
        Assert.Throws<UsageException>(() => Parse(arguments)).Message;

    [Theory]
    [InlineData("-rC4 -P /run/p")]
    [InlineData("-r -C 4 -P/run/p")]
    [InlineData("--readonly --connections=4 --pidfile /run/p")]
    [InlineData("--read-only --connecti 4 --pid-file=/run/p --")]
    public void Options_may_be_spelled_as_getopt_long_allows(string options)
    {
        Invocation invocation = Parse([.. options.Split(' '), "dir", "nbd://localhost"]);

        Assert.True(invocation.ReadOnly);
        Assert.Equal(4, invocation.Client.Connections);
        Assert.Equal("/run/p", invocation.PidFile);
        Assert.Equal("dir", invocation.Mountpoint);
    }

    [Theory]
    [InlineData(null, 32 << 20)]
    [InlineData("--readahead=off", 0)]
    [InlineData("--readahead=0", 0)]
    [InlineData("--readahead=256K", 256 << 10)]
    [InlineData("--reada=8M", 8 << 20)]
    [InlineData("--readahead=512M", 512 << 20)]
    public void So_much_is_read_ahead(string? option, long bytes)
    {
        string[] options = option is null ? [] : [option];

        Assert.Equal(bytes, Parse([.. options, "dir", "nbd://localhost"]).ReadAheadBytes);
    }

    [Theory]
    [InlineData("--readahead=on")]
    [InlineData("--readahead=")]
    [InlineData("--readahead=-1")]
    [InlineData("--readahead=4K")]
    [InlineData("--readahead=1G")]
    [InlineData("--readahead=16E")]
    public void Other_sizes_of_read_ahead_are_refused(string option) =>
        Assert.Contains("--readahead", Refused(option, "dir", "nbd://localhost"));

    [Fact]
    public void Cache_mode_permissions_and_owner_are_taken()
    {
        Invocation invocation = Parse(
            "--cache=writeback", "--mode", "640", "--uid=1", "--gid=2", "-o", "allow_root,auto_cache,nonempty", "dir",
            "nbd://localhost");

        Assert.Equal(CacheMode.Writeback, invocation.Cache);
        Assert.Equal(0x1a0u, invocation.Mode);
        Assert.Equal(1u, invocation.UserId);
        Assert.Equal(2u, invocation.GroupId);
        Assert.True(invocation.Fuse.AllowRoot);
        Assert.True(invocation.Fuse.KernelCache);
        Assert.Equal(CacheMode.Writethrough, Parse("dir", "nbd://localhost").Cache);
        Assert.Equal(CacheMode.None, Parse("-o", "direct_io", "dir", "nbd://localhost").Cache);
        Assert.Equal(CacheMode.None, Parse("--partitions", "dir/disk", "nbd://localhost").Cache);
    }

    [Theory]
    [InlineData("--cache=some", "none, writethrough or writeback")]
    [InlineData("--mode=888", "octal")]
    [InlineData("--mode=1777", "octal")]
    [InlineData("-oallow_root,allow_other", "exclude each other")]
    [InlineData("-odirect_io --cache=writeback", "excludes")]
    [InlineData("--all --cache=writeback", "--all")]
    [InlineData("-onosuch", "nosuch")]
    public void Cache_modes_permissions_and_mount_options_that_make_no_sense_are_refused(string options, string reason) =>
        Assert.Contains(reason, Refused([.. options.Split(' '), "dir", "nbd://localhost"]));

    [Fact]
    public void Nothing_after_the_mountpoint_is_taken_for_an_option()
    {
        Invocation invocation = Parse("dir", "--command", "nbdkit", "-r", "--version", "-C", "9", "@file", "a b");

        Assert.False(invocation.ReadOnly);
        Assert.Null(invocation.Client.Connections);
        NbdEndpoint.Command command = Assert.IsType<NbdEndpoint.Command>(invocation.Endpoint);
        Assert.Equal(["nbdkit", "-r", "--version", "-C", "9", "@file", "a b"], command.Arguments);
    }

    [Fact]
    public void A_command_in_brackets_ends_with_the_last_word()
    {
        Invocation invocation = Parse("dir", "[", "sh", "-c", "]", "]");

        Assert.Equal(
            ["sh", "-c", "]"], Assert.IsType<NbdEndpoint.SocketActivation>(invocation.Endpoint).Arguments);
    }

    [Fact]
    public void An_export_can_be_named_where_the_source_has_no_place_for_it()
    {
        Invocation invocation = Parse("--export", "-disk", "dir", "--unix", "/run/sock");

        Assert.Equal("-disk", invocation.ExportName);
        Assert.Equal(new NbdEndpoint.Unix("/run/sock"), invocation.Endpoint);
    }

    [Fact]
    public void A_virtual_machine_is_named_by_context_and_port()
    {
        Assert.Equal(new NbdEndpoint.Vsock(2, 4294967295), Parse("dir", "--vsock", "2", "4294967295").Endpoint);
    }

    [Fact]
    public void TLS_is_required_as_soon_as_one_of_its_options_is_there()
    {
        NbdTlsOptions required = new() { Policy = NbdTlsPolicy.Require };

        Assert.Equal(new NbdTlsOptions(), Parse("dir", "--unix", "s").Client.Tls);
        Assert.Equal(new NbdTlsOptions(), Parse("--tls", "off", "dir", "--unix", "s").Client.Tls);
        Assert.Equal(required, Parse("--tls=require", "dir", "--unix", "s").Client.Tls);
        Assert.Equal(required, Parse("--tls-verify-peer", "dir", "--unix", "s").Client.Tls);
        Assert.Equal(
            new NbdTlsOptions
            {
                Policy = NbdTlsPolicy.Allow,
                CertificateDirectory = "d",
                PskFile = "f",
                UserName = "u",
                HostName = "h",
                VerifyPeer = false,
            },
            Parse(
                "--tls=on", "--tls-certificates=d", "--tls-psk-file", "f", "--tls-username", "u", "--tls-hostname", "h",
                "--no-tls-verify-peer", "dir", "--unix", "s").Client.Tls);
        Assert.Equal(required with { PskFile = "f" }, Parse("dir", "nbds://h/?tls-psk-file=f").Client.Tls);
    }

    [Fact]
    public void Fuse_options_may_be_repeated_and_listed()
    {
        Invocation invocation = Parse(
            "-o", "allow_other,fsname=a\\,b", "-o", "umask=022,nosuid", "-oattr_timeout=1.5", "dir", "nbd://h");

        Assert.True(invocation.Fuse.AllowOther);
        Assert.Equal("a,b", invocation.Fuse.Source);
        Assert.Equal(0x12u, invocation.Fuse.Umask);
        Assert.Equal(TimeSpan.FromSeconds(1.5), invocation.Fuse.AttrTimeout);
    }

    [Theory]
    [InlineData("no MOUNTPOINT")]
    [InlineData("no SOURCE", "dir")]
    [InlineData("unknown option '--zzz'", "--zzz", "dir", "nbd://h")]
    [InlineData("unknown option '-z'", "-rz", "dir", "nbd://h")]
    [InlineData("ambiguous", "--conn", "4", "dir", "nbd://h")]
    [InlineData("does not take a value", "--readonly=yes", "dir", "nbd://h")]
    [InlineData("needs a value", "-C")]
    [InlineData("from 1 to 1024, not '0'", "-C", "0", "dir", "nbd://h")]
    [InlineData("from 1 to 1024, not '4x'", "-C", "4x", "dir", "nbd://h")]
    [InlineData("unknown mode '--zzz'", "dir", "--zzz")]
    [InlineData("unknown mode '-r'", "dir", "-r", "nbd://h")]
    [InlineData("must be followed by HOST PORT", "dir", "--tcp", "h")]
    [InlineData("unexpected word 'x'", "dir", "--tcp", "h", "1", "x")]
    [InlineData("from 1 to 65535, not '65536'", "dir", "--tcp", "h", "65536")]
    [InlineData("must be a number, not '3x'", "dir", "--fd", "3x")]
    [InlineData("as the last word, ']'", "dir", "[", "nbdkit", "memory")]
    [InlineData("as the last word, ']'", "dir", "[", "]")]
    [InlineData("followed by a command", "dir", "--command")]
    [InlineData("must be followed by CID PORT", "dir", "--vsock", "2")]
    [InlineData("--vsock CID must be a number from 0 to 4294967295, not 'x'", "dir", "--vsock", "x", "10809")]
    [InlineData("--vsock PORT must be a number from 1 to 4294967295, not '0'", "dir", "--vsock", "2", "0")]
    [InlineData("--tls must be off, on or require, not 'yes'", "--tls", "yes", "dir", "--unix", "s")]
    [InlineData("--tls-psk-file has no effect with --tls=off", "--tls=off", "--tls-psk-file=f", "dir", "--unix", "s")]
    [InlineData("contradict each other", "--tls-verify-peer", "--no-tls-verify-peer", "dir", "--unix", "s")]
    [InlineData("--tls-hostname is for sources without a URI: write nbds", "--tls-hostname", "h", "dir", "nbds://h")]
    [InlineData("unexpected word 'more'", "dir", "nbd://h", "more")]
    [InlineData("--export is for sources without a URI", "--export", "x", "dir", "nbd://h/y")]
    [InlineData("unknown FUSE option '-o zzz'", "-o", "zzz", "dir", "nbd://h")]
    [InlineData("octal", "-o", "umask=9", "dir", "nbd://h")]
    public void A_wrong_command_line_is_refused_with_its_reason(string reason, params string[] arguments)
    {
        Assert.Contains(reason, Refused(arguments), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--long-options", "--connections\n")]
    [InlineData("--short-options", "-C\n")]
    [InlineData("--help", "fusermount3 -u MOUNTPOINT")]
    [InlineData("--fuse-help", "allow_other")]
    [InlineData("-V", "nbdfuse ")]
    public void Texts_can_be_asked_for(string option, string expected)
    {
        StringWriter output = new();

        Assert.Null(CommandLine.Parse([option], output, _ => { }));
        Assert.Contains(expected, output.ToString(), StringComparison.Ordinal);
    }
}
