using System.Security.Cryptography;
using global::Nbd;
using Linux;

namespace UnitTests.Nbd;

/// <summary>What is wrong with our own files and options is said before a server is asked.</summary>
public sealed class TlsFilesTests : IDisposable
{
    private static readonly NbdEndpoint s_tcp = new NbdEndpoint.Tcp("server.example");

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("nbd-tls-");

    public void Dispose() => _folder.Delete(recursive: true);

    /// <summary>Text of the key file, what the message must hold, errno.</summary>
    public static TheoryData<string, string, Errno> KeyFiles => new()
    {
        { "", "has no pre-shared key of the user 'me': add a line 'me:KEY'", Errno.ENOENT },
        { "you:0011\nmee:00\nme\n", "has no pre-shared key of the user 'me'", Errno.ENOENT },
        { "me:\n", "must be 1 to 256 bytes in hexadecimal digits", Errno.EINVAL },
        { "me:5ec\n", "must be 1 to 256 bytes in hexadecimal digits", Errno.EINVAL },
        { "me:5ecret\n", "must be 1 to 256 bytes in hexadecimal digits", Errno.EINVAL },
        { "me:" + new string('a', 514), "must be 1 to 256 bytes in hexadecimal digits", Errno.EINVAL },
    };

    [Fact]
    public void TLS_that_is_off_needs_nothing() =>
        Assert.Null(TlsCredentials.Read(new NbdTlsOptions { CertificateDirectory = "/nowhere" }, s_tcp));

    [Fact]
    public void A_folder_without_an_authority_is_refused()
    {
        NbdException exception = Refuse(Certificates());

        Assert.Contains($"{_folder.FullName}/ca-cert.pem does not exist or may not be read", exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    [Fact]
    public void A_folder_without_an_authority_will_do_when_the_server_is_not_checked()
    {
        using TlsCredentials? credentials = TlsCredentials.Read(Certificates() with { VerifyPeer = false }, s_tcp);

        Assert.NotNull(credentials);
    }

    [Theory]
    [InlineData("ca-cert.pem", "load the trusted certificates of")]
    [InlineData("ca-crl.pem", "load the lists of revoked certificates of")]
    [InlineData("client-cert.pem", "load our certificate")]
    [InlineData("client-key.pem", "load the key")]
    public void A_file_that_makes_no_sense_is_named(string name, string message)
    {
        using TestCertificates certificates = new TestCertificates(_folder.FullName).WithClient("me").WithRevoked();
        File.WriteAllText(FileAt(name), "-----BEGIN CERTIFICATE-----\nnonsense\n");

        NbdException exception = Refuse(Certificates());

        Assert.Contains(message, exception.Message);
        Assert.Contains(FileAt(name), exception.Message);
        Assert.Equal(Errno.EINVAL, exception.Errno);
    }

    [Fact]
    public void A_certificate_without_its_key_is_refused()
    {
        using TestCertificates certificates = new TestCertificates(_folder.FullName).WithClient("me");
        File.Delete(FileAt("client-key.pem"));

        Assert.Contains("client-key.pem does not exist", Refuse(Certificates()).Message);
    }

    [Fact]
    public void The_key_of_another_certificate_is_refused()
    {
        using TestCertificates certificates = new TestCertificates(_folder.FullName).WithClient("me");
        using ECDsa other = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        File.WriteAllText(FileAt("client-key.pem"), other.ExportPkcs8PrivateKeyPem());

        Assert.Contains("key values mismatch", Refuse(Certificates()).Message);
    }

    [Fact]
    public void An_encrypted_key_is_refused_and_no_password_is_asked_for()
    {
        using TestCertificates certificates = new TestCertificates(_folder.FullName).WithClient("me");
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        PbeParameters parameters = new(PbeEncryptionAlgorithm.Aes128Cbc, HashAlgorithmName.SHA256, 1000);
        File.WriteAllText(FileAt("client-key.pem"), key.ExportEncryptedPkcs8PrivateKeyPem("password", parameters));

        Assert.Contains("it must not be encrypted", Refuse(Certificates()).Message);
    }

    [Fact]
    public void The_authorities_of_the_system_need_a_name_to_check()
    {
        NbdTlsOptions options = new() { Policy = NbdTlsPolicy.Require };

        NbdException exception = Assert.Throws<NbdException>(
            () => TlsCredentials.Read(options, new NbdEndpoint.Unix("/s")));
        using TlsCredentials? named = TlsCredentials.Read(options with { HostName = "h" }, new NbdEndpoint.Unix("/s"));
        using TlsCredentials? host = TlsCredentials.Read(options, s_tcp);

        Assert.Contains("(tls-hostname)", exception.Message);
        Assert.Equal(Errno.EINVAL, exception.Errno);
        Assert.NotNull(named);
        Assert.NotNull(host);
    }

    [Theory]
    [MemberData(nameof(KeyFiles))]
    public void A_key_file_without_a_key_is_explained_and_no_key_is_shown(string text, string message, Errno errno)
    {
        File.WriteAllText(FileAt("keys"), text);

        NbdException exception = Refuse(PreSharedKey());

        Assert.Contains(message, exception.Message);
        Assert.DoesNotContain("5ec", exception.Message);
        Assert.Equal(errno, exception.Errno);
    }

    [Theory]
    [InlineData("me:0a0B\r\n", "0a0b")]
    [InlineData("you:00\nme:ff  \nme:01", "ff")]
    public void The_first_line_of_the_user_has_the_key(string text, string key)
    {
        File.WriteAllText(FileAt("keys"), text);

        Assert.Equal(Convert.FromHexString(key), TlsKeyFile.Find(FileAt("keys"), "me"));
    }

    [Fact]
    public void A_missing_key_file_is_named()
    {
        NbdException exception = Refuse(PreSharedKey());

        Assert.Contains(FileAt("keys"), exception.Message);
        Assert.Equal(Errno.ENOENT, exception.Errno);
    }

    [Fact]
    public void A_pre_shared_key_needs_a_file_and_a_user_that_TLS_can_carry()
    {
        Assert.Contains("(tls-psk-file)", Refuse(PreSharedKey() with { PskFile = null }).Message);
        Assert.Contains("1 to 128 bytes", Refuse(PreSharedKey() with { UserName = new string('x', 129) }).Message);
        Assert.Contains("1 to 128 bytes", Refuse(PreSharedKey() with { UserName = "" }).Message);
    }

    private static NbdException Refuse(NbdTlsOptions options) =>
        Assert.Throws<NbdException>(() => TlsCredentials.Read(options, s_tcp));

    private string FileAt(string name) => Path.Combine(_folder.FullName, name);

    private NbdTlsOptions Certificates() =>
        new() { Policy = NbdTlsPolicy.Require, CertificateDirectory = _folder.FullName };

    private NbdTlsOptions PreSharedKey() => new()
    {
        Policy = NbdTlsPolicy.Require,
        Authentication = NbdTlsAuthentication.PreSharedKey,
        PskFile = FileAt("keys"),
        UserName = "me",
    };
}
