namespace Linux;

/// <summary>TLS cannot be set up: the library, a certificate or a key cannot be used.</summary>
/// <param name="message">What was tried, and what came back.</param>
/// <param name="innerException">What caused it, if that says more.</param>
public sealed class TlsException(string message, Exception? innerException = null) : IOException(message, innerException);
