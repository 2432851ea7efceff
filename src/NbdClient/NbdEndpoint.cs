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
    public virtual string FormatUri(string exportName) => Describe();

    /// <inheritdoc/>
    public sealed override string ToString() => Describe();

    /// <summary>A server that listens on a TCP port.</summary>
    /// <param name="Host">Host name or IP address; an IPv6 address is without brackets.</param>
    /// <param name="Port">Port, 1 to 65535.</param>
    public sealed record Tcp(string Host, int Port = DefaultPort) : NbdEndpoint
    {
        /// <inheritdoc/>
        public override string Describe() => $"{PrintableText.From(BracketedHost)}:{Port}";

        /// <inheritdoc/>
        public override string FormatUri(string exportName)
        {
            string port = Port == DefaultPort ? "" : $":{Port}";
            string host = Host.Contains(':', StringComparison.Ordinal)
                ? BracketedHost
                : Uri.EscapeDataString(Host);
            return $"nbd://{PrintableText.From(host)}{port}/{Uri.EscapeDataString(exportName)}";
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
        public override string FormatUri(string exportName)
        {
            if (Server is not null)
            {
                return Server.FormatUri(exportName);
            }

            // A '/' needs no escape in a query and is easier to read without.
            string path = Uri.EscapeDataString(Path).Replace("%2F", "/", StringComparison.Ordinal);
            return $"nbd+unix:///{Uri.EscapeDataString(exportName)}?socket={path}";
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
        /// <inheritdoc/>
        public override string Describe() => PrintableText.From($"[ {string.Join(' ', Arguments)} ]");
    }
}
