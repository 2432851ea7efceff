using System.Security.Cryptography.X509Certificates;
using global::Nbd;

namespace UnitTests.Nbd;

/// <summary>Which servers are trusted: names, dates, authorities, revocation, and who is not checked.</summary>
public sealed class TlsTrustTests : TlsTest
{
    [Fact]
    public void A_certificate_for_another_name_is_refused()
    {
        using X509Certificate2 certificate = Certificates.Server("other.example");

        NbdException exception = RefuseServer(Options(), certificate);

        Assert.Contains("hostname mismatch; it is for another server than 'server.example'", exception.Message);
    }

    [Theory]
    [InlineData("*.server.example", true)]
    [InlineData("*.example", false)]
    [InlineData("a*.server.example", false)]
    [InlineData("*", false)]
    public void A_wildcard_stands_for_one_whole_label(string name, bool matches)
    {
        using X509Certificate2 certificate = Certificates.Server(name);
        NbdTlsOptions options = Options() with { HostName = "a." + Host };
        if (matches)
        {
            Accept(options, certificate);
        }
        else
        {
            Assert.Contains("hostname mismatch", RefuseServer(options, certificate).Message);
        }
    }

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("::1")]
    public void An_address_is_compared_with_the_addresses_of_the_certificate(string address)
    {
        using X509Certificate2 right = Certificates.Server("x.example", address);
        using X509Certificate2 wrong = Certificates.Server("x.example", "192.0.2.1");

        Accept(Options() with { HostName = address }, right);
        NbdException exception = RefuseServer(Options() with { HostName = address }, wrong);

        Assert.Contains($"IP address mismatch; it is for another server than '{address}'", exception.Message);
    }

    [Fact]
    public void An_expired_certificate_is_refused()
    {
        using X509Certificate2 certificate = Certificates.ExpiredServer(Host);

        Assert.Contains("certificate has expired; it must be renewed", RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void A_certificate_of_another_authority_is_refused()
    {
        using TestCertificates others = new(Folder.CreateSubdirectory("other").FullName);
        using X509Certificate2 certificate = others.Server(Host);

        Assert.Contains(
            "unable to get local issuer certificate; the certificate of its authority must be in ca-cert.pem",
            RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void A_certificate_of_a_client_is_no_servers()
    {
        using X509Certificate2 certificate = Certificates.Client(Host);

        Assert.Contains("it is not one for a server", RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void A_revoked_certificate_is_refused_and_others_are_not()
    {
        using X509Certificate2 good = Certificates.Server(Host);
        using X509Certificate2 bad = Certificates.Server(Host);
        Certificates.WithRevoked(bad);

        Accept(Options(), good);
        Assert.Contains("certificate revoked; ca-crl.pem lists it", RefuseServer(Options(), bad).Message);
    }

    [Fact]
    public void A_list_of_another_authority_says_nothing_about_a_certificate()
    {
        using TestCertificates others = new(Folder.CreateSubdirectory("other").FullName);
        others.WithRevoked();
        File.Copy(Path.Combine(others.Folder, "ca-crl.pem"), Path.Combine(Folder.FullName, "ca-crl.pem"));
        using X509Certificate2 certificate = Certificates.Server(Host);

        Assert.Contains("ca-crl.pem has no list of its authority", RefuseServer(Options(), certificate).Message);
    }

    [Fact]
    public void Anybody_is_the_server_when_it_is_not_checked()
    {
        using TestCertificates others = new(Folder.CreateSubdirectory("other").FullName);
        using X509Certificate2 certificate = others.ExpiredServer("other.example");

        Accept(Options() with { VerifyPeer = false }, certificate);
    }

    [Fact]
    public void A_Unix_socket_without_a_name_takes_any_server_of_the_authority()
    {
        using X509Certificate2 right = Certificates.Server("any.example");
        using TestCertificates others = new(Folder.CreateSubdirectory("other").FullName);
        using X509Certificate2 wrong = others.Server("any.example");

        Accept(Options() with { HostName = null }, right);
        Assert.Contains("ca-cert.pem", RefuseServer(Options() with { HostName = null }, wrong).Message);
    }

    [Fact]
    public void Our_certificate_is_shown_to_a_server_that_asks()
    {
        Certificates.WithClient("me");
        using X509Certificate2 certificate = Certificates.Server(Host);
        string? subject = null;
        Accept(Options(), certificate, shown => subject = shown?.Subject);

        Assert.Equal("CN=me", subject);
    }
}
