using System.Net;

namespace NbdServe;

/// <summary>What the command line asks for.</summary>
internal sealed record Invocation
{
    /// <summary>At least one. The first is also the default export, with the empty name.</summary>
    internal required IReadOnlyList<ExportArguments> Exports { get; init; }

    internal string? UnixSocket { get; init; }

    internal (IPAddress Address, int Port)? Tcp { get; init; }

    /// <summary>One client, on standard input and output.</summary>
    internal bool StandardStreams { get; init; }

    /// <summary>For /bin/sh; we end when it does, with its exit status.</summary>
    internal string? Run { get; init; }

    internal bool ReadOnly { get; init; }

    internal TlsMode Tls { get; init; }

    /// <summary>Folder of the certificates; null without TLS.</summary>
    internal string? TlsCertificates { get; init; }

    /// <summary>Clients need a certificate that the CA signed.</summary>
    internal bool TlsVerifyPeer { get; init; }

    internal string? PidFile { get; init; }

    internal bool ExitWithParent { get; init; }

    /// <summary>What happens is told on standard error.</summary>
    internal bool Verbose { get; init; }
}

/// <summary>An export's name and what is behind it.</summary>
internal sealed record ExportArguments(string Name, BackendArguments Backend);

/// <summary>Whether clients must, may or cannot encrypt.</summary>
internal enum TlsMode
{
    Off,
    On,
    Require,
}
