using System.Runtime.InteropServices;

namespace Linux;

/// <summary>
/// What is used of OpenSSL 3. Names and constants are those of its headers. The libraries are loaded at the first
/// call, so that whoever does not use TLS neither needs nor waits for them.
/// </summary>
internal static unsafe partial class OpenSsl
{
    internal const int BIO_TYPE_SOURCE_SINK = 0x0400;
    internal const int BIO_CTRL_FLUSH = 11;
    internal const int BIO_FLAGS_READ = 0x01;
    internal const int BIO_FLAGS_WRITE = 0x02;
    internal const int BIO_FLAGS_SHOULD_RETRY = 0x08;
    internal const int BIO_FLAGS_ALL = 0x0f;

    internal const int SSL_CTRL_MODE = 33;
    internal const int SSL_CTRL_SET_TLSEXT_HOSTNAME = 55;
    internal const int SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
    internal const int SSL_ERROR_SSL = 1;
    internal const int SSL_ERROR_WANT_READ = 2;
    internal const int SSL_ERROR_WANT_WRITE = 3;
    internal const int SSL_ERROR_SYSCALL = 5;
    internal const int SSL_ERROR_ZERO_RETURN = 6;
    internal const int SSL_FILETYPE_PEM = 1;
    internal const int SSL_MODE_ENABLE_PARTIAL_WRITE = 1;
    internal const int SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2;
    internal const ulong SSL_OP_NO_RENEGOTIATION = 1UL << 30;
    internal const int SSL_VERIFY_NONE = 0;
    internal const int SSL_VERIFY_PEER = 1;
    internal const int TLS1_2_VERSION = 0x0303;

    internal const int X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS = 0x4;
    internal const ulong X509_V_FLAG_CRL_CHECK = 0x4;
    internal const ulong X509_V_FLAG_PARTIAL_CHAIN = 0x80000;

    private const string Ssl = "libssl.so.3";
    private const string Crypto = "libcrypto.so.3";

    [LibraryImport(Crypto)]
    internal static partial int BIO_get_new_index();

    [LibraryImport(Crypto)]
    internal static partial nint BIO_meth_new(int type, byte* name);

    [LibraryImport(Crypto)]
    internal static partial int BIO_meth_set_read(nint method, delegate* unmanaged<nint, byte*, int, int> read);

    [LibraryImport(Crypto)]
    internal static partial int BIO_meth_set_write(nint method, delegate* unmanaged<nint, byte*, int, int> write);

    [LibraryImport(Crypto)]
    internal static partial int BIO_meth_set_ctrl(nint method, delegate* unmanaged<nint, int, nint, void*, nint> control);

    [LibraryImport(Crypto)]
    internal static partial nint BIO_new(nint method);

    [LibraryImport(Crypto)]
    internal static partial void BIO_set_data(nint bio, void* data);

    [LibraryImport(Crypto)]
    internal static partial void* BIO_get_data(nint bio);

    [LibraryImport(Crypto)]
    internal static partial void BIO_set_flags(nint bio, int flags);

    [LibraryImport(Crypto)]
    internal static partial void BIO_clear_flags(nint bio, int flags);

    [LibraryImport(Crypto)]
    internal static partial void ERR_clear_error();

    [LibraryImport(Crypto)]
    internal static partial nuint ERR_peek_error();

    [LibraryImport(Crypto)]
    internal static partial byte* ERR_reason_error_string(nuint error);

    [LibraryImport(Crypto)]
    internal static partial int X509_STORE_set_flags(nint store, nuint flags);

    [LibraryImport(Crypto)]
    internal static partial int X509_VERIFY_PARAM_set1_host(nint parameters, byte* name, nuint length);

    [LibraryImport(Crypto)]
    internal static partial int X509_VERIFY_PARAM_set1_ip_asc(nint parameters, byte* address);

    [LibraryImport(Crypto)]
    internal static partial void X509_VERIFY_PARAM_set_hostflags(nint parameters, uint flags);

    [LibraryImport(Crypto)]
    internal static partial byte* X509_verify_cert_error_string(nint error);

    [LibraryImport(Ssl)]
    internal static partial nint TLS_client_method();

    [LibraryImport(Ssl)]
    internal static partial nint SSL_CTX_new(nint method);

    [LibraryImport(Ssl)]
    internal static partial void SSL_CTX_free(nint context);

    [LibraryImport(Ssl)]
    internal static partial nint SSL_CTX_ctrl(nint context, int command, nint number, void* argument);

    [LibraryImport(Ssl)]
    internal static partial ulong SSL_CTX_set_options(nint context, ulong options);

    [LibraryImport(Ssl)]
    internal static partial void SSL_CTX_set_verify(nint context, int mode, void* callback);

    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_load_verify_locations(nint context, byte* file, byte* directory);

    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_set_default_verify_paths(nint context);

    [LibraryImport(Ssl)]
    internal static partial nint SSL_CTX_get_cert_store(nint context);

    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_use_certificate_chain_file(nint context, byte* file);

    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_use_PrivateKey_file(nint context, byte* file, int type);

    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_check_private_key(nint context);

    [LibraryImport(Ssl)]
    internal static partial void SSL_CTX_set_default_passwd_cb(
        nint context, delegate* unmanaged<byte*, int, int, void*, int> callback);

    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_set_cipher_list(nint context, byte* ciphers);

    [LibraryImport(Ssl)]
    internal static partial void SSL_CTX_set_psk_client_callback(
        nint context, delegate* unmanaged<nint, byte*, byte*, uint, byte*, uint, uint> callback);

    [LibraryImport(Ssl)]
    internal static partial nint SSL_new(nint context);

    [LibraryImport(Ssl)]
    internal static partial void SSL_free(nint ssl);

    [LibraryImport(Ssl)]
    internal static partial void SSL_set_bio(nint ssl, nint read, nint write);

    [LibraryImport(Ssl)]
    internal static partial nint SSL_ctrl(nint ssl, int command, nint number, void* argument);

    [LibraryImport(Ssl)]
    internal static partial nint SSL_get0_param(nint ssl);

    [LibraryImport(Ssl)]
    internal static partial int SSL_set_ex_data(nint ssl, int index, void* data);

    [LibraryImport(Ssl)]
    internal static partial void* SSL_get_ex_data(nint ssl, int index);

    [LibraryImport(Ssl)]
    internal static partial int SSL_connect(nint ssl);

    [LibraryImport(Ssl)]
    internal static partial int SSL_read(nint ssl, byte* destination, int length);

    [LibraryImport(Ssl)]
    internal static partial int SSL_write(nint ssl, byte* source, int length);

    [LibraryImport(Ssl)]
    internal static partial int SSL_shutdown(nint ssl);

    [LibraryImport(Ssl)]
    internal static partial int SSL_get_error(nint ssl, int result);

    [LibraryImport(Ssl)]
    internal static partial nint SSL_get_verify_result(nint ssl);

    [LibraryImport(Ssl)]
    internal static partial byte* SSL_get_version(nint ssl);

    /// <summary>Why the last call on this thread failed, such as "no start line".</summary>
    internal static string LastReason()
    {
        nuint error = ERR_peek_error();
        byte* reason = error == 0 ? null : ERR_reason_error_string(error);
        return reason is null
            ? error == 0 ? "unknown error" : $"error 0x{error:x}"
            : Marshal.PtrToStringUTF8((nint)reason)!;
    }
}
