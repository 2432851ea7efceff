namespace Nbd;

/// <summary>Where an NBD server is, or how to start it. Immutable; the nested records are the only kinds.</summary>
public abstract record NbdEndpoint
{
    /// <summary>The port that IANA assigned to NBD.</summary>
    public const int DefaultPort = 10809;

    private protected NbdEndpoint()
    {
    }

    /// <summary>A short text for messages, such as "unix:/run/nbd.sock" or "localhost:10809". Printable.</summary>
    public abstract string Describe();

    /// <summary>
    /// The NBD URI of an export on this endpoint, or, for what no URI can name, a text in its place. Printable and
    /// without secrets: fit for messages and for the source of a mount.
    /// </summary>
    /// <param name="exportName">Name of the export; "" is the server's default export.</param>
    /// <param name="encrypted">Whether the connection uses TLS.</param>
    public virtual string FormatUri(string exportName, bool encrypted = false) => Describe();

    /// <inheritdoc/>
    public sealed override string ToString() => Describe();

    private static string Scheme(bool encrypted) => encrypted ? "nbds" : "nbd";

    /// <summary>A server that listens on a TCP port.</summary>
    /// <param name="Host">Host name or IP address; an IPv6 address is without brackets.</param>
    /// <param name="Port">Port, 1 to 65535.</param>
    public sealed record Tcp(string Host, int Port = DefaultPort) : NbdEndpoint
    {
        /// <inheritdoc/>
        public override string Describe() => $"{PrintableText.From(BracketedHost)}:{Port}";

        /// <inheritdoc/>
        public override string FormatUri(string exportName, bool encrypted = false)
        {
            string port = Port == DefaultPort ? "" : $":{Port}";
            string host = Host.Contains(':', StringComparison.Ordinal)
                ? BracketedHost
                : Uri.EscapeDataString(Host);
            return $"{Scheme(encrypted)}://{PrintableText.From(host)}{port}/{Uri.EscapeDataString(exportName)}";
        }

        private string BracketedHost => Host.Contains(':', StringComparison.Ordinal) ? $"[{Host}]" : Host;
    }

    /// <summary>A server that listens on a Unix domain socket.</summary>
    /// <param name="Path">
    /// Path of the socket, at most 107 bytes in UTF-8; a relative one starts at the current directory. With a NUL
    /// in front it is the name of a socket in Linux's abstract namespace.
    /// </param>
    public sealed record Unix(string Path) : NbdEndpoint
    {
        /// <summary>The server that we started behind the socket: messages name it instead of a path of no use.</summary>
        internal NbdEndpoint? Server { get; init; }

        /// <inheritdoc/>
        public override string Describe() => Server is not null
            ? Server.Describe()
            : "unix:" + PrintableText.From(Path.StartsWith('\0') ? string.Concat("@", Path.AsSpan(1)) : Path);

        /// <inheritdoc/>
        public override string FormatUri(string exportName, bool encrypted = false) => Server is not null
            ? Server.FormatUri(exportName, encrypted)
            : $"{Scheme(encrypted)}+unix:///{Uri.EscapeDataString(exportName)}?socket={NbdUri.EscapeValue(Path)}";
    }

    /// <summary>A server on the other side of a virtual machine's border (vsock(7)).</summary>
    /// <param name="ContextId">The machine: 2 is the host, 1 this machine itself, 3 and more are guests.</param>
    /// <param name="Port">Port.</param>
    public sealed record Vsock(uint ContextId, uint Port = DefaultPort) : NbdEndpoint
    {
        /// <summary>The context of the host, seen from a guest.</summary>
        public const uint Host = 2;

        /// <inheritdoc/>
        public override string Describe() => $"vsock:{ContextId}:{Port}";

        /// <inheritdoc/>
        public override string FormatUri(string exportName, bool encrypted = false)
        {
            string port = Port == DefaultPort ? "" : $":{Port}";
            return $"{Scheme(encrypted)}+vsock://{ContextId}{port}/{Uri.EscapeDataString(exportName)}";
        }
    }

    /// <summary>A connected stream socket that this process inherited. It is taken over: closed at the end.</summary>
    /// <param name="Number">File descriptor number, 0 or more.</param>
    public sealed record Fd(int Number) : NbdEndpoint
    {
        /// <inheritdoc/>
        public override string Describe() => $"fd {Number}";
    }

    /// <summary>A server that is started for us and talks NBD on its standard input and output.</summary>
    /// <param name="Arguments">The program and its arguments; never given to a shell.</param>
    public sealed record Command(IReadOnlyList<string> Arguments) : NbdEndpoint
    {
        /// <inheritdoc/>
        public override string Describe() => PrintableText.From($"[ {string.Join(' ', Arguments)} ]");
    }

    /// <summary>
    /// A server that is started for us and inherits a listening socket by the rules of systemd socket activation.
    /// </summary>
    /// <param name="Arguments">The program and its arguments; never given to a shell.</param>
    public sealed record SocketActivation(IReadOnlyList<string> Arguments) : NbdEndpoint
    {
        /// <summary>
        /// What the server knows the socket by (LISTEN_FDNAMES), if it looks at that: 1 to 255 printable ASCII characters
        /// without a colon. Default: "unknown", as of a socket that nobody named (sd_listen_fds(3)).
        /// </summary>
        public string SocketName { get; init; } = "unknown";

        /// <inheritdoc/>
        public override string Describe() => PrintableText.From($"[ {string.Join(' ', Arguments)} ]");
    }
}
