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
    [InlineData("nbds://host/", "TLS (nbds://)")]
    [InlineData("NBDS+unix:///?socket=s", "TLS (nbds+unix://)")]
    [InlineData("nbd+vsock://2:10809/", "virtual machine sockets (nbd+vsock://)")]
    [InlineData("nbds+vsock://", "virtual machine sockets with TLS (nbds+vsock://)")]
    [InlineData("nbd+ssh://-oProxyCommand=x/", "SSH (nbd+ssh://)")]
    public void Schemes_of_later_are_refused_as_not_supported_yet(string uri, string message)
    {
        NbdException exception = Assert.Throws<NbdException>(() => NbdUri.Parse(uri));

        Assert.Contains("not supported yet: " + message, exception.Message);
        Assert.Equal(Errno.EOPNOTSUPP, exception.Errno);
    }

    [Fact]
    public void What_has_no_effect_is_warned_of()
    {
        IReadOnlyList<string> warnings =
            NbdUri.Parse("nbd://me@host/?x-mine=1&foo%0a=2&tls-certificates=/etc/pki&bar").Warnings;

        Assert.Equal(
            [
                "the query key 'foo?' is unknown and has no effect",
                "'tls-certificates' has no effect without TLS",
                "the query key 'bar' is unknown and has no effect",
                "the user name has no effect without TLS",
            ],
            warnings);
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
    public void Text_has_no_secrets_and_means_the_same(string uri, string text)
    {
        NbdUri parsed = NbdUri.Parse(uri);

        Assert.Equal(text, parsed.ToString());
        Assert.Equal(parsed.Endpoint, NbdUri.Parse(text).Endpoint);
        Assert.Equal(parsed.ExportName, NbdUri.Parse(text).ExportName);
    }

    [Theory]
    [InlineData("nbd://user:secret@host:0/?tls-psk-file=secret")]
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
        Assert.Equal("unix:@name", new NbdEndpoint.Unix("\0name").Describe());
        Assert.Equal("fd 3", new NbdEndpoint.Fd(3).FormatUri("x"));
        Assert.Equal("[ nbdkit -s ]", new NbdEndpoint.Command(["nbdkit", "-s"]).FormatUri("x"));
        Assert.Equal(
            "[ qemu-nbd -f qcow2 a ]", new NbdEndpoint.SocketActivation(["qemu-nbd", "-f", "qcow2", "a"]).Describe());
    }
}
