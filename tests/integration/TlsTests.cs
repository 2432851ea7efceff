using UnitTests.Nbd;

namespace IntegrationTests;

/// <summary>Encryption with servers of several makes, which use other TLS libraries.</summary>
public sealed class TlsTests : IntegrationTest
{
    private string Pki => Folder.Folder("pki");

    private string Keys
    {
        get
        {
            string file = Folder.FileAt("keys.psk");
            if (!File.Exists(file))
            {
                Tool.Run("psktool", "-u", "alice", "-p", file);
            }

            return file;
        }
    }

    [Fact]
    public void An_nbdkit_with_certificates_is_read_and_written()
    {
        using TestCertificates certificates = new TestCertificates(Pki).WithServer("localhost");
        ServedImage image = new(Folder);
        NbdServer server = NbdkitTcp("--tls=require", $"--tls-certificates={Pki}", "file", image.Path);

        NbdFuseMount mount = Mount($"nbds://localhost:{server.Port}/?tls-certificates={Pki}");

        Assert.Equal($"nbds://localhost:{server.Port}/", SourceOf(mount));
        image.ReadAndWriteThrough(mount);
        Assert.DoesNotContain("terminated", server.Process.Log);
    }

    [Fact]
    public void An_nbdkit_that_asks_for_our_certificate_gets_it()
    {
        using TestCertificates certificates = new TestCertificates(Pki).WithServer("localhost");
        NbdServer server = NbdkitTcp("--tls=require", "--tls-verify-peer", $"--tls-certificates={Pki}", "pattern", "64K");
        string uri = $"nbds://localhost:{server.Port}/?tls-certificates={Pki}";

        (int exitCode, string output) = RunNbdFuse(Folder.Folder("none"), uri);
        Assert.Equal(1, exitCode);
        Assert.Contains("does it want a client certificate", output);

        certificates.WithClient("me");
        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(Mount(uri).File));
    }

    [Fact]
    public void A_pre_shared_key_opens_an_nbdkit()
    {
        ServedImage image = new(Folder);
        NbdServer server = Nbdkit("--tls=require", $"--tls-psk={Keys}", "file", image.Path);

        NbdFuseMount mount = Mount($"nbds+unix://alice@/?socket={server.Socket}&tls-psk-file={Keys}");

        Assert.Equal($"nbds+unix:///?socket={server.Socket}", SourceOf(mount));
        image.ReadAndWriteThrough(mount);
    }

    [Fact]
    public void Options_do_for_a_socket_what_parameters_do_for_a_uri()
    {
        NbdServer server = Nbdkit("--tls=require", $"--tls-psk={Keys}", "pattern", "64K");

        NbdFuseMount mount = Mount(new MountRequest
        {
            Options = ["--tls-psk-file", Keys, "--tls-username", "alice"],
            Source = ["--unix", server.Socket],
        });

        Assert.Equal(Data.Pattern(0, 65536), File.ReadAllBytes(mount.File));
    }

    [Fact]
    public void The_key_of_another_user_opens_nothing()
    {
        NbdServer server = Nbdkit("--tls=require", $"--tls-psk={Keys}", "pattern", "64K");
        string other = Folder.FileAt("other.psk");
        Tool.Run("psktool", "-u", "bob", "-p", other);

        (int exitCode, string output) =
            RunNbdFuse(Folder.Folder("mnt"), $"nbds+unix://bob@/?socket={server.Socket}&tls-psk-file={other}");

        Assert.Equal(1, exitCode);
        Assert.Contains("has it the user 'bob' with the same pre-shared key?", output);
        Assert.DoesNotContain(File.ReadAllText(other).Trim().Split(':')[1], output);
    }

    [Fact]
    public void Who_comes_without_TLS_is_told_how_to_ask_for_it()
    {
        NbdServer server = Nbdkit("--tls=require", $"--tls-psk={Keys}", "pattern", "64K");

        (int exitCode, string output) = RunNbdFuse(Folder.Folder("mnt"), "--unix", server.Socket);

        Assert.Equal(1, exitCode);
        Assert.Contains("connect with TLS, with nbds in place of nbd in the URI (without a URI: --tls=require)", output);
    }

    [Theory]
    [InlineData("x509")]
    [InlineData("psk")]
    public void A_qemu_server_is_read_and_written(string kind)
    {
        ServedImage image = new(Folder);
        using TestCertificates certificates = QemuFiles();
        NbdServer server = QemuNbd("--object", $"{Credentials(kind)},id=tls0", "--tls-creds", "tls0", "-f", "raw", image.Path);

        image.ReadAndWriteThrough(Mount($"nbds+unix:///?socket={server.Socket}&{Proof(kind)}"));
    }

    [Theory]
    [InlineData("x509")]
    [InlineData("psk")]
    public void A_qemu_storage_daemon_is_read_and_written(string kind)
    {
        ServedImage image = new(Folder);
        using TestCertificates certificates = QemuFiles();
        NbdServer server = EncryptedQemuStorageDaemon(
            Credentials(kind),
            "--blockdev", $"file,node-name=disk,filename={image.Path}",
            "--export", "nbd,id=disk,node-name=disk,name=disk,writable=on");

        image.ReadAndWriteThrough(Mount($"nbds+unix:///disk?socket={server.Socket}&{Proof(kind)}"));
    }

    [Fact]
    public void The_reference_server_is_read_and_written()
    {
        using TestCertificates certificates = new TestCertificates(Pki).WithServer("localhost").WithClient("me");
        ServedImage image = new(Folder);
        // With cacertfile it wants a certificate of the client.
        string files = $"force_tls = true\ncertfile = {Pki}/server-cert.pem\nkeyfile = {Pki}/server-key.pem\n"
            + $"cacertfile = {Pki}/ca-cert.pem";
        NbdServer server = ReferenceServer("disk", image.Path, general: files);

        image.ReadAndWriteThrough(Mount($"nbds://localhost:{server.Port}/disk?tls-certificates={Pki}"));
    }

    [Fact]
    public void Our_own_server_is_read_and_written()
    {
        using TestCertificates certificates = new TestCertificates(Pki).WithServer("localhost");
        ServedImage image = new(Folder);
        NbdServer server = NbdServe("file", image.Path, "--tls", "require", "--tls-certificates", Pki);

        image.ReadAndWriteThrough(Mount($"nbds+unix:///?socket={server.Socket}&tls-certificates={Pki}"));
    }

    [Fact]
    public void Without_OpenSSL_one_line_says_what_is_missing()
    {
        string libraries = Folder.Folder("libraries");
        File.WriteAllText(Path.Combine(libraries, "libssl.so.3"), "");
        using BackgroundProcess nbdfuse = Background(
            "env",
            $"LD_LIBRARY_PATH={libraries}",
            Repository.NbdFuse,
            Folder.Folder("mnt"),
            "nbds://localhost/?tls-verify-peer=0");

        Assert.Equal(1, nbdfuse.WaitForExit());
        Assert.Equal(
            "nbdfuse: TLS needs OpenSSL 3 (libssl.so.3 and libcrypto.so.3), which cannot be loaded: install it\n",
            nbdfuse.Log);
    }

    // What qemu's programs look for in one folder.
    private TestCertificates QemuFiles()
    {
        TestCertificates certificates = new TestCertificates(Pki).WithServer("localhost");
        File.Copy(Keys, Path.Combine(Pki, "keys.psk"));
        return certificates;
    }

    private string Credentials(string kind) => $"tls-creds-{kind},endpoint=server,dir={Pki},verify-peer=off";

    private string Proof(string kind) => kind == "psk"
        ? $"tls-psk-file={Keys}&tls-username=alice"
        : $"tls-certificates={Pki}&tls-hostname=localhost";

    private static string SourceOf(NbdFuseMount mount) =>
        Tool.Run("findmnt", "-n", "-o", "SOURCE", mount.MountPath).Trim();
}
