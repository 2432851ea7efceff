using Linux;

namespace Nbd;

/// <summary>The files of a folder with certificates, named as by libnbd, nbdkit and QEMU.</summary>
/// <param name="Authorities">ca-cert.pem; null: what the system trusts.</param>
/// <param name="Revoked">ca-crl.pem, if it exists.</param>
/// <param name="Own">client-cert.pem and client-key.pem, if they exist.</param>
internal sealed record TlsCertificateFiles(string? Authorities, string? Revoked, (string Certificate, string Key)? Own)
{
    private const string AuthoritiesName = "ca-cert.pem";

    /// <param name="directory">The folder; null: one of the default ones, if any is there.</param>
    /// <param name="needsAuthorities">Whether ca-cert.pem must be there.</param>
    /// <exception cref="NbdException">A file is missing (ENOENT).</exception>
    internal static TlsCertificateFiles Find(string? directory, bool needsAuthorities)
    {
        string? folder = directory ?? Defaults().FirstOrDefault(folder => File.Exists(Path.Combine(folder, AuthoritiesName)));
        if (folder is null)
        {
            return new TlsCertificateFiles(null, null, null);
        }

        string authorities = Path.Combine(folder, AuthoritiesName);
        if (needsAuthorities && !File.Exists(authorities))
        {
            throw new NbdException(
                $"TLS: {PrintableText.From(authorities)} does not exist or may not be read: it must hold the certificate of "
                + "the authority that signed the server's",
                Errno.ENOENT);
        }

        string revoked = Path.Combine(folder, "ca-crl.pem");
        string certificate = Path.Combine(folder, "client-cert.pem");
        string key = Path.Combine(folder, "client-key.pem");
        bool hasCertificate = File.Exists(certificate);
        if (hasCertificate && !File.Exists(key))
        {
            throw new NbdException(
                $"TLS: {PrintableText.From(key)} does not exist or may not be read, but its certificate client-cert.pem does",
                Errno.ENOENT);
        }

        return new TlsCertificateFiles(
            authorities, File.Exists(revoked) ? revoked : null, hasCertificate ? (certificate, key) : null);
    }

    private static IEnumerable<string> Defaults()
    {
        if (Environment.IsPrivilegedProcess)
        {
            return ["/etc/pki/libnbd"];
        }

        string? home = Environment.GetEnvironmentVariable("HOME");
        return string.IsNullOrEmpty(home)
            ? []
            : [Path.Combine(home, ".pki/libnbd"), Path.Combine(home, ".config/pki/libnbd")];
    }
}
