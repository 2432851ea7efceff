using System.Runtime.InteropServices;

namespace Linux;

/// <summary>
/// What all TLS sessions with a server have in common: whom to trust, and who we are. TLS 1.2 and later, by OpenSSL
/// with the ciphers that the system's administrator allows. Immutable and thread-safe.
/// </summary>
public sealed unsafe class TlsContext : SafeHandle
{
    /// <summary>Longest name of a pre-shared key, in bytes: what a TLS 1.2 and 1.3 client of OpenSSL takes.</summary>
    public const int MaximumIdentityBytes = 128;

    /// <summary>Longest pre-shared key, in bytes.</summary>
    public const int MaximumKeyBytes = 256;

    private readonly PreSharedKey* _preSharedKey = (PreSharedKey*)NativeMemory.AllocZeroed((nuint)sizeof(PreSharedKey));

    private TlsContext(nint context)
        : base(0, ownsHandle: true)
    {
        SetHandle(context);
        _ = OpenSsl.SSL_CTX_ctrl(handle, OpenSsl.SSL_CTRL_SET_MIN_PROTO_VERSION, OpenSsl.TLS1_2_VERSION, null);
        _ = OpenSsl.SSL_CTX_ctrl(
            handle,
            OpenSsl.SSL_CTRL_MODE,
            OpenSsl.SSL_MODE_ENABLE_PARTIAL_WRITE | OpenSsl.SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
            null);
        _ = OpenSsl.SSL_CTX_set_options(handle, OpenSsl.SSL_OP_NO_RENEGOTIATION);
        OpenSsl.SSL_CTX_set_verify(handle, OpenSsl.SSL_VERIFY_PEER, null);
        OpenSsl.SSL_CTX_set_default_passwd_cb(handle, &RefusePassword);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>What the session's key callback needs; valid as long as this object.</summary>
    internal void* KeyData => _preSharedKey;

    /// <summary>The server proves who it is with a certificate.</summary>
    /// <param name="authorities">File of the trusted certificates (PEM); null: those that the system trusts.</param>
    /// <param name="revoked">
    /// File of lists of revoked certificates (PEM), or null. If given, it must hold the list of the authority of the
    /// server's certificate, or that is refused.
    /// </param>
    /// <param name="own">Files of our own certificate, with those that lead to its authority, and its key; or null.</param>
    /// <exception cref="TlsException">OpenSSL is missing, or a file cannot be used.</exception>
    public static TlsContext ForCertificates(string? authorities, string? revoked, (string Certificate, string Key)? own)
    {
        TlsContext context = WithOwnCertificate(own);
        try
        {
            context.Trust(authorities, revoked);
            return context;
        }
        catch
        {
            context.Dispose();
            throw;
        }
    }

    /// <summary>Anybody may be the server.</summary>
    /// <param name="own">As for <see cref="ForCertificates"/>.</param>
    /// <exception cref="TlsException">OpenSSL is missing, or a file cannot be used.</exception>
    public static TlsContext WithoutVerification((string Certificate, string Key)? own)
    {
        TlsContext context = WithOwnCertificate(own);
        OpenSsl.SSL_CTX_set_verify(context.handle, OpenSsl.SSL_VERIFY_NONE, null);
        return context;
    }

    /// <summary>Both sides prove who they are by a key that only they know; no certificate is accepted.</summary>
    /// <param name="identity">Name of the key: 1 to <see cref="MaximumIdentityBytes"/> bytes.</param>
    /// <param name="key">1 to <see cref="MaximumKeyBytes"/> bytes.</param>
    /// <exception cref="TlsException">OpenSSL is missing.</exception>
    public static TlsContext ForPreSharedKey(ReadOnlySpan<byte> identity, ReadOnlySpan<byte> key)
    {
        TlsContext context = New();
        PreSharedKey* native = context._preSharedKey;
        identity.CopyTo(new Span<byte>(native->Identity, MaximumIdentityBytes));
        key.CopyTo(new Span<byte>(native->Key, MaximumKeyBytes));
        native->KeyBytes = key.Length;

        // TLS 1.3 has ciphers of its own.
        fixed (byte* ciphers = "ECDHE-PSK:DHE-PSK:PSK:!eNULL\0"u8)
        {
            _ = OpenSsl.SSL_CTX_set_cipher_list(context.handle, ciphers);
        }

        OpenSsl.SSL_CTX_set_psk_client_callback(context.handle, &ProvideKey);
        return context;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        OpenSsl.SSL_CTX_free(handle);
        NativeMemory.Clear(_preSharedKey, (nuint)sizeof(PreSharedKey));
        NativeMemory.Free(_preSharedKey);
        return true;
    }

    private static TlsContext New()
    {
        try
        {
            nint context = OpenSsl.SSL_CTX_new(OpenSsl.TLS_client_method());
            Check(context != 0, "start OpenSSL");
            return new TlsContext(context);
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            throw new TlsException(
                "TLS needs OpenSSL 3 (libssl.so.3 and libcrypto.so.3), which cannot be loaded: install it", e);
        }
    }

    private static TlsContext WithOwnCertificate((string Certificate, string Key)? own)
    {
        TlsContext context = New();
        try
        {
            if (own is { } files)
            {
                context.Present(files.Certificate, files.Key);
            }

            return context;
        }
        catch
        {
            context.Dispose();
            throw;
        }
    }

    private void Trust(string? authorities, string? revoked)
    {
        if (authorities is null)
        {
            Check(OpenSsl.SSL_CTX_set_default_verify_paths(handle) == 1, "load the system's trusted certificates");
        }
        else
        {
            Load(authorities, "trusted certificates");
        }

        // A certificate that is trusted is so without its issuer.
        ulong flags = OpenSsl.X509_V_FLAG_PARTIAL_CHAIN;
        if (revoked is not null)
        {
            Load(revoked, "lists of revoked certificates");
            flags |= OpenSsl.X509_V_FLAG_CRL_CHECK;
        }

        _ = OpenSsl.X509_STORE_set_flags(OpenSsl.SSL_CTX_get_cert_store(handle), (nuint)flags);
    }

    private void Load(string path, string what)
    {
        fixed (byte* file = NativeStrings.Terminated(path))
        {
            OpenSsl.ERR_clear_error();
            Check(OpenSsl.SSL_CTX_load_verify_locations(handle, file, null) == 1, $"load the {what} of {path}");
        }
    }

    private void Present(string certificate, string key)
    {
        fixed (byte* certificateFile = NativeStrings.Terminated(certificate), keyFile = NativeStrings.Terminated(key))
        {
            OpenSsl.ERR_clear_error();
            Check(
                OpenSsl.SSL_CTX_use_certificate_chain_file(handle, certificateFile) == 1,
                $"load our certificate {certificate}");
            Check(
                OpenSsl.SSL_CTX_use_PrivateKey_file(handle, keyFile, OpenSsl.SSL_FILETYPE_PEM) == 1,
                $"load the key {key} of our certificate (it must not be encrypted)");
            Check(
                OpenSsl.SSL_CTX_check_private_key(handle) == 1,
                $"use the key {key} with our certificate {certificate}");
        }
    }

    private static void Check(bool succeeded, string what)
    {
        if (!succeeded)
        {
            throw new TlsException($"{what}: {OpenSsl.LastReason()}");
        }
    }

    /// <summary>OpenSSL would ask on the terminal.</summary>
    [UnmanagedCallersOnly]
    private static int RefusePassword(byte* buffer, int size, int forWriting, void* data) => 0;

    [UnmanagedCallersOnly]
    private static uint ProvideKey(
        nint ssl, byte* hint, byte* identity, uint maximumIdentity, byte* key, uint maximumKey)
    {
        PreSharedKey* ours = (PreSharedKey*)OpenSsl.SSL_get_ex_data(ssl, 0);
        if (maximumIdentity <= MaximumIdentityBytes || maximumKey < ours->KeyBytes)
        {
            return 0;
        }

        new ReadOnlySpan<byte>(ours->Identity, MaximumIdentityBytes + 1)
            .CopyTo(new Span<byte>(identity, (int)maximumIdentity));
        new ReadOnlySpan<byte>(ours->Key, ours->KeyBytes).CopyTo(new Span<byte>(key, (int)maximumKey));
        return (uint)ours->KeyBytes;
    }

    /// <summary>Outside the managed heap, where it would be copied about.</summary>
    private struct PreSharedKey
    {
        /// <summary>With a NUL behind it.</summary>
        internal fixed byte Identity[MaximumIdentityBytes + 1];

        internal fixed byte Key[MaximumKeyBytes];

        internal int KeyBytes;
    }
}
