using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

public sealed class NbdUriTests
{
    [Theory]
    [InlineData("nbd://localhost", "localhost", 10809, "")]
    [InlineData("nbd://localhost/", "localhost", 10809, "")]
    [InlineData("nbd://", "localhost", 10809, "")]
    [InlineData("nbd:///disk", "localhost", 10809, "disk")]
    [InlineData("NBD://Example.ORG:1/disk", "Example.ORG", 1, "disk")]
    [InlineData("nbd://host:65535/a/b", "host", 65535, "a/b")]
    [InlineData("nbd://host:/a", "host", 10809, "a")]
    [InlineData("nbd://host//disk", "host", 10809, "/disk")]
    [InlineData("nbd://host/%2Fdisk", "host", 10809, "/disk")]
    [InlineData("nbd://host/a+b%20c%25", "host", 10809, "a+b c%")]
    [InlineData("nbd://host/%c3%a9\u00e9", "host", 10809, "\u00e9\u00e9")]
    [InlineData("nbd://[::1]/d", "::1", 10809, "d")]
    [InlineData("nbd://[fe80::1%25eth0]:99/d", "fe80::1%eth0", 99, "d")]
    [InlineData("nbd://192.0.2.1:10810", "192.0.2.1", 10810, "")]
    [InlineData("nbd://us%65r:pw@host/d", "host", 10809, "d")]
    [InlineData("nbd://host/d?", "host", 10809, "d")]
    [InlineData("nbd://host?x-y=1", "host", 10809, "")]
    [InlineData("nbd://%68ost/d", "host", 10809, "d")]
    public void Tcp_URIs(string uri, string host, int port, string exportName)
    {
        NbdUri parsed = NbdUri.Parse(uri);

        Assert.Equal(new NbdEndpoint.Tcp(host, port), parsed.Endpoint);
        Assert.Equal(exportName, parsed.ExportName);
    }

    [Theory]
    [InlineData("nbd+unix:///?socket=/run/nbd.sock", "/run/nbd.sock", "")]
    [InlineData("nbd+unix://?socket=s", "s", "")]
    [InlineData("nbd+unix:///disk?socket=s", "s", "disk")]
    [InlineData("Nbd+Unix:////disk?socket=s", "s", "/disk")]
    [InlineData("nbd+unix:///?socket=a%20b%26c%3dd+e=f", "a b&c=d+e=f", "")]
    [InlineData("nbd+unix:///?s%6fcket=s", "s", "")]
    [InlineData("nbd+unix:///?socket=first;socket=last", "last", "")]
    [InlineData("nbd+unix:///?&x-1&&=z&socket=s&", "s", "")]
    [InlineData("nbd+unix:///?socket=%00abstract", "\0abstract", "")]
    [InlineData("nbd+unix:///?socket=/a?b", "/a?b", "")]
    public void Unix_URIs(string uri, string path, string exportName)
    {
        NbdUri parsed = NbdUri.Parse(uri);

        Assert.Equal(new NbdEndpoint.Unix(path), parsed.Endpoint);
        Assert.Equal(exportName, parsed.ExportName);
        Assert.Empty(parsed.Warnings);
    }

    [Theory]
    [InlineData("", "it is empty")]
    [InlineData("/tmp/sock", "for a Unix socket use nbd+unix:///?socket=/tmp/sock, for a host nbd://HOST/")]
    [InlineData("sock", "nbd+unix:///?socket=sock")]
    [InlineData("localhost:10809", "did you mean nbd://localhost:10809/ ?")]
    [InlineData("nbd:localhost:10809", "'//' must follow the scheme")]
    [InlineData("nbd:/localhost", "'//' must follow the scheme")]
    [InlineData("http://host/", "'http' is not the scheme of an NBD URI; use nbd://HOST")]
    [InlineData("tcp://host", "'tcp' is not the scheme")]
    [InlineData("://host", "'' is not the scheme")]
    [InlineData("nbd+unix:///disk", "the path of the socket is missing")]
    [InlineData("nbd+unix:///?socket=", "the path of the socket is missing")]
    [InlineData("nbd+unix:///?socket", "the path of the socket is missing")]
    [InlineData("nbd+unix://run/nbd.sock?socket=s", "a Unix socket has no host, but 'run' stands")]
    [InlineData("nbd://host/?socket=s", "'socket=' belongs to nbd+unix")]
    [InlineData("nbds+vsock://2/?socket=s", "'socket=' belongs to nbd+unix")]
    [InlineData("nbd+vsock://host/", "'host' is not the context id (CID)")]
    [InlineData("nbd+vsock://-1/", "'-1' is not the context id (CID)")]
    [InlineData("nbd+vsock://4294967296/", "'4294967296' is not the context id (CID)")]
    [InlineData("nbd+vsock://2:0/", "'0' is not a port; it must be 1 to 4294967295")]
    [InlineData("nbds://host/?tls-verify-peer=2", "'tls-verify-peer' must be 0 or 1, or no or yes")]
    [InlineData("nbds://host/?TLS-Verify-Peer=ye", "'tls-verify-peer' must be 0 or 1")]
    [InlineData("nbds://host/?tls-verify-peer", "'tls-verify-peer' must be 0 or 1")]
    [InlineData("nbds://host/?tls-type=X509", "'tls-type' must be x509 or psk")]
    [InlineData("nbds://host/?tls-certificates=", "'tls-certificates' has no value")]
    [InlineData("nbds://host/?tls-psk-file=a%00", "'tls-psk-file' has no value")]
    [InlineData("nbds://a%00@host/", "the user name holds a NUL byte")]
    [InlineData("nbds://%ff@host/", "the user name is not UTF-8")]
    [InlineData("nbd://host:0/", "'0' is not a port")]
    [InlineData("nbd://host:65536/", "'65536' is not a port")]
    [InlineData("nbd://host:+1/", "'+1' is not a port")]
    [InlineData("nbd://host:1x/", "'1x' is not a port")]
    [InlineData("nbd://::1/", "must stand in brackets")]
    [InlineData("nbd://[::1/", "must be written as [ADDRESS]")]
    [InlineData("nbd://[::1]x/", "must be written as [ADDRESS]")]
    [InlineData("nbd://[localhost]/", "'localhost' is not an IPv6 address")]
    [InlineData("nbd://a b/", "blank or a control character")]
    [InlineData("nbd://a%0ab/", "blank or a control character")]
    [InlineData("nbd://host/a%00b", "NUL byte")]
    [InlineData("nbd://host/%", "'%' without two hexadecimal digits")]
    [InlineData("nbd://host/%4", "'%' without two hexadecimal digits")]
    [InlineData("nbd://host/%4g", "'%' without two hexadecimal digits")]
    [InlineData("nbd://host/%ff", "the export name is not UTF-8")]
    [InlineData("nbd+unix:///?socket=a%00b", "NUL byte")]
    [InlineData("nbd+unix:///?socket=%00", "NUL byte")]
    [InlineData("nbd://host/#part", "'#' must be written %23")]
    [InlineData("\u001b[2J", "?[2J")]
    public void Wrong_URIs_say_what_is_wrong(string uri, string message)
    {
        Assert.False(NbdUri.TryParse(uri, out NbdUri? parsed, out string? error));
        Assert.Null(parsed);
        Assert.Contains(message, error);
        Assert.DoesNotContain(error, c => char.IsControl(c));

        NbdException exception = Assert.Throws<NbdException>(() => NbdUri.Parse(uri));
        Assert.Equal(Errno.EINVAL, exception.Errno);
        Assert.Equal(error, exception.Message);
    }

    [Theory]
    [InlineData("nbd+vsock://3:1/disk", 3, 1, "disk")]
    [InlineData("nbd+vsock://", 2, 10809, "")]
    [InlineData("nbd+vsock://:7", 2, 7, "")]
    [InlineData("Nbd+Vsock://1/", 1, 10809, "")]
    [InlineData("nbds+vsock://4294967295:4294967295//d", uint.MaxValue, uint.MaxValue, "/d")]
    public void Vsock_URIs(string uri, uint contextId, uint port, string exportName)
    {
        NbdUri parsed = NbdUri.Parse(uri);

        Assert.Equal(new NbdEndpoint.Vsock(contextId, port), parsed.Endpoint);
        Assert.Equal(exportName, parsed.ExportName);
    }

    [Theory]
    [InlineData("nbd+ssh://-oProxyCommand=x/", "SSH (nbd+ssh://) is not supported")]
    [InlineData("nbds://host/?tls-type=anon", "'tls-type=anon' is not supported: without a certificate or key")]
    public void What_is_not_supported_says_what_to_use(string uri, string message)
    {
        NbdException exception = Assert.Throws<NbdException>(() => NbdUri.Parse(uri));

        Assert.Contains(message, exception.Message);
        Assert.Contains("use ", exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Fact]
    public void A_URI_without_TLS_parameters_only_requires_TLS()
    {
        NbdTlsOptions required = new() { Policy = NbdTlsPolicy.Require };

        Assert.Equal(required, NbdUri.Parse("nbds://host/").Tls);
        Assert.Equal(required, NbdUri.Parse("NBDS+unix:///?socket=s").Tls);
        Assert.Equal(required, NbdUri.Parse("nbds+vsock://2/").Tls);
        Assert.Equal(new NbdTlsOptions(), NbdUri.Parse("nbd://host/").Tls);
    }

    [Fact]
    public void TLS_parameters_say_how()
    {
        NbdUri parsed = NbdUri.Parse(
            "nbds://host/?tls-type=psk;tls-certificates=/a%20b&tls-psk-file=keys&tls-hostname=h%26&tls-verify-peer=0"
            + "&tls-username=me");

        Assert.Equal(
            new NbdTlsOptions
            {
                Policy = NbdTlsPolicy.Require,
                Authentication = NbdTlsAuthentication.PreSharedKey,
                CertificateDirectory = "/a b",
                PskFile = "keys",
                HostName = "h&",
                VerifyPeer = false,
                UserName = "me",
            },
            parsed.Tls);
        Assert.Empty(parsed.Warnings);
    }

    [Fact]
    public void Keys_may_be_in_any_case()
    {
        NbdUri parsed = NbdUri.Parse(
            "nbds+unix:///?Socket=first&SOCKET=/S&TLS-TYPE=psk&TLS-CERTIFICATES=/A&Tls-Psk-File=K&tls-USERNAME=Me"
            + "&TLS-HostName=H&TLS-VERIFY-PEER=0&X-mine=1");

        Assert.Equal(new NbdEndpoint.Unix("/S"), parsed.Endpoint);
        Assert.Empty(parsed.Warnings);
        Assert.Equal(
            "nbds+unix:///?socket=/S&tls-type=psk&tls-certificates=/A&tls-psk-file=K&tls-username=Me&tls-hostname=H"
            + "&tls-verify-peer=0",
            parsed.ToString());
        Assert.Equal(
            ["the query key 'soc\u212aet' is unknown and has no effect", "the query key 'FOO' is unknown and has no effect"],
            NbdUri.Parse("nbd://host/?soc\u212aet=s&FOO=1").Warnings);
    }

    [Theory]
    [InlineData(true, "1", "true", "t", "yes", "y", "on", "True", "YES", "oN")]
    [InlineData(false, "0", "false", "f", "no", "n", "off", "FALSE", "No", "oFF")]
    public void Whether_to_check_the_server_may_be_said_in_words(bool isChecked, params string[] words)
    {
        foreach (string word in words)
        {
            NbdUri parsed = NbdUri.Parse("nbds://host/?tls-verify-peer=" + word);

            Assert.Equal(isChecked, parsed.Tls.VerifyPeer);
            Assert.Equal(isChecked ? "nbds://host/" : "nbds://host/?tls-verify-peer=0", parsed.ToString());
        }
    }

    [Theory]
    [InlineData("nbds://a%40b@host/", "a@b")]
    [InlineData("nbds+unix://me@/?socket=s", "me")]
    [InlineData("nbds+vsock://me@2/", "me")]
    [InlineData("nbds://me@host/?tls-username=you", "you")]
    [InlineData("nbds://me@host/?tls-username=you&tls-username=her", "her")]
    [InlineData("nbds://@host/", null)]
    public void The_user_is_named_before_the_host_or_in_the_query(string uri, string? user)
    {
        Assert.Equal(user, NbdUri.Parse(uri).Tls.UserName);
    }

    [Fact]
    public void A_URI_that_says_how_to_use_TLS_has_the_last_word()
    {
        NbdClientOptions options = new()
        {
            Connections = 7,
            Tls = new NbdTlsOptions { Policy = NbdTlsPolicy.Allow, PskFile = "keys" },
        };

        Assert.Same(options, NbdUri.Parse("nbd://host/").Over(options));
        Assert.Equal(
            options with { Tls = options.Tls with { Policy = NbdTlsPolicy.Require } },
            NbdUri.Parse("nbds://host/").Over(options));
        Assert.Equal(
            options with { Tls = new NbdTlsOptions { Policy = NbdTlsPolicy.Require, CertificateDirectory = "d" } },
            NbdUri.Parse("nbds://host/?tls-certificates=d").Over(options));
    }

    [Fact]
    public void What_has_no_effect_is_warned_of()
    {
        IReadOnlyList<string> warnings =
            NbdUri.Parse("nbd://me@host/?x-mine=1&foo%0a=2&tls-certificates=/etc/pki&bar&tls-priority=a").Warnings;

        Assert.Equal(
            [
                "the query key 'foo?' is unknown and has no effect",
                "the query key 'bar' is unknown and has no effect",
                "the query key 'tls-priority' is unknown and has no effect",
                "'tls-certificates' has no effect without TLS: write nbds in place of nbd",
                "the user name has no effect without TLS",
            ],
            warnings);
        Assert.Equal(
            ["the password has no effect: a pre-shared key comes from the file of 'tls-psk-file'"],
            NbdUri.Parse("nbds://me:secret@host/").Warnings);
    }

    /// <summary>Texts of which any can stand for any part.</summary>
    private static readonly string[] s_texts =
        ["a", "/", "\u00e9\u4e2d", "a b", "%", "%41", "&;=", "?#", "a@b:c", "[x]", "+", "\"'<>", "..", "\U0001f600"];

    [Fact]
    public void A_URI_means_the_same_after_it_was_written_and_read()
    {
        Random random = new(1);
        for (int i = 0; i < 2000; i++)
        {
            bool encrypted = random.Next(2) == 0;
            NbdEndpoint endpoint = random.Next(5) switch
            {
                0 => new NbdEndpoint.Tcp("::1", random.Next(1, 65536)),
                1 => new NbdEndpoint.Tcp("h.example", random.Next(2) == 0 ? 10809 : 1),
                2 => new NbdEndpoint.Vsock((uint)random.Next(), (uint)random.Next(1, int.MaxValue)),
                3 => new NbdEndpoint.Unix("\0" + Text()),
                _ => new NbdEndpoint.Unix(Text()),
            };
            NbdTlsOptions tls = !encrypted ? new() : new()
            {
                Policy = NbdTlsPolicy.Require,
                Authentication = random.Next(3) switch
                {
                    0 => NbdTlsAuthentication.X509,
                    1 => NbdTlsAuthentication.PreSharedKey,
                    _ => null,
                },
                CertificateDirectory = Perhaps(),
                PskFile = Perhaps(),
                UserName = Perhaps(),
                HostName = Perhaps(),
                VerifyPeer = random.Next(2) == 0,
            };
            NbdUri uri = new(endpoint, random.Next(3) == 0 ? "" : Text(), tls, []);

            string written = uri.ToString();
            NbdUri read = NbdUri.Parse(written);

            Assert.Equal(endpoint, read.Endpoint);
            Assert.Equal(uri.ExportName, read.ExportName);
            Assert.Equal(tls, read.Tls);
            Assert.Empty(read.Warnings);
            Assert.Equal(written, read.ToString());
            Assert.Matches("^nbds?[a-z+]*://[][A-Za-z0-9:/?@!$&'()*+,;=._~%-]*$", written);
        }

        string Text() => string.Concat(random.GetItems(s_texts, random.Next(1, 4)));
        string? Perhaps() => random.Next(2) == 0 ? null : Text();
    }

    [Fact]
    public void An_export_name_has_at_most_4096_bytes()
    {
        string longest = new('\u00e9', 2048);

        Assert.Equal(longest, NbdUri.Parse("nbd://host/" + longest).ExportName);
        Assert.False(NbdUri.TryParse("nbd://host/a" + longest, out _, out string? error));
        Assert.Contains("the export name has 4097 bytes; NBD allows 4096", error);
    }

    [Theory]
    [InlineData("nbd://user:secret@host/a b?x-key=secret", "nbd://host/a%20b")]
    [InlineData("nbd://host:10809//disk", "nbd://host/%2Fdisk")]
    [InlineData("nbd://[::1]:99/", "nbd://[::1]:99/")]
    [InlineData("nbd+unix:///a?socket=/run/a b", "nbd+unix:///a?socket=/run/a%20b")]
    [InlineData("nbd+unix:///?socket=%00name", "nbd+unix:///?socket=%00name")]
    [InlineData("nbd+vsock://:10809/a", "nbd+vsock://2/a")]
    [InlineData("nbds://me:secret@host/?x-a=secret", "nbds://host/?tls-username=me")]
    [InlineData(
        "nbds+unix://me@/?tls-verify-peer=1&tls-psk-file=k&socket=s",
        "nbds+unix:///?socket=s&tls-psk-file=k&tls-username=me")]
    public void Text_has_no_secrets_and_means_the_same(string uri, string text)
    {
        NbdUri parsed = NbdUri.Parse(uri);

        Assert.Equal(text, parsed.ToString());
        Assert.Equal(parsed.Endpoint, NbdUri.Parse(text).Endpoint);
        Assert.Equal(parsed.ExportName, NbdUri.Parse(text).ExportName);
    }

    [Theory]
    [InlineData("nbd://user:secret@host:0/?tls-psk-file=secret")]
    [InlineData("nbds://user:secret@host:0/?tls-psk-file=secret&tls-username=secret")]
    [InlineData("nbds://host/?tls-psk-file=secret&tls-type=secret")]
    [InlineData("nbds://host/?tls-hostname=secret&tls-verify-peer=secret")]
    [InlineData("http://user:secret@host")]
    public void Errors_do_not_repeat_secrets(string uri)
    {
        Assert.False(NbdUri.TryParse(uri, out _, out string? error));
        Assert.DoesNotContain("secret", error);
        Assert.Contains("host", error);
    }

    [Fact]
    public void Endpoints_describe_themselves_in_messages()
    {
        Assert.Equal("localhost:10809", new NbdEndpoint.Tcp("localhost").ToString());
        Assert.Equal("[::1]:1", new NbdEndpoint.Tcp("::1", 1).Describe());
        Assert.Equal("unix:/run/s?", new NbdEndpoint.Unix("/run/s\n").Describe());
        Assert.Equal("vsock:2:10809", new NbdEndpoint.Vsock(NbdEndpoint.Vsock.Host).Describe());
        Assert.Equal("nbds+vsock://3:1/x", new NbdEndpoint.Vsock(3, 1).FormatUri("x", encrypted: true));
        Assert.Equal("nbds://localhost/x", new NbdEndpoint.Tcp("localhost").FormatUri("x", encrypted: true));
        Assert.Equal("nbds+unix:///?socket=s", new NbdEndpoint.Unix("s").FormatUri("", encrypted: true));
        Assert.Equal("unix:@name", new NbdEndpoint.Unix("\0name").Describe());
        Assert.Equal("fd 3", new NbdEndpoint.Fd(3).FormatUri("x"));
        Assert.Equal("[ nbdkit -s ]", new NbdEndpoint.Command(["nbdkit", "-s"]).FormatUri("x"));
        Assert.Equal(
            "[ qemu-nbd -f qcow2 a ]", new NbdEndpoint.SocketActivation(["qemu-nbd", "-f", "qcow2", "a"]).Describe());
    }
}
