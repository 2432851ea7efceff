using System.Globalization;
using System.Net;
using Nbd;

namespace NbdServe;

/// <summary>Where the server listens, and the URI that clients use. Its own folder is removed at the end.</summary>
internal sealed class Listening : IDisposable
{
    private const int DefaultPort = 10809;

    private string? _folder;

    private Listening()
    {
    }

    /// <summary>Path of the Unix socket; null without one.</summary>
    internal string? UnixSocket { get; private set; }

    /// <summary>The TCP port; null without one.</summary>
    internal int? Port { get; private set; }

    private IPAddress Address { get; set; } = IPAddress.Loopback;

    /// <summary>Listens as the command line, or who started us, asks for.</summary>
    /// <exception cref="UsageException">The command line contradicts socket activation.</exception>
    /// <exception cref="Linux.LinuxException">E.g. EADDRINUSE.</exception>
    internal static Listening Begin(NbdServer server, Invocation invocation)
    {
        Listening listening = new();
        try
        {
            if (invocation.StandardStreams)
            {
                return listening;
            }

            bool isChosen = invocation.UnixSocket is not null || invocation.Tcp is not null;
            if (server.ListenActivated())
            {
                return isChosen || invocation.Run is not null
                    ? throw new UsageException("with a socket from systemd there can be no --unix, --tcp or --run")
                    : listening;
            }

            listening.Listen(server, invocation, isChosen);
            return listening;
        }
        catch
        {
            listening.Dispose();
            throw;
        }
    }

    /// <summary>The URI of an export; null when we listen on what others made.</summary>
    internal string? Uri(string exportName, bool isTls)
    {
        string scheme = isTls ? "nbds" : "nbd";
        string name = System.Uri.EscapeDataString(exportName);
        if (UnixSocket is not null)
        {
            string path = System.Uri.EscapeDataString(UnixSocket).Replace("%2F", "/", StringComparison.Ordinal);
            return $"{scheme}+unix:///{name}?socket={path}";
        }

        if (Port is not int port)
        {
            return null;
        }

        // Who listens on all addresses is reached on the loopback address.
        IPAddress reached = Address.Equals(IPAddress.Any) ? IPAddress.Loopback
            : Address.Equals(IPAddress.IPv6Any) ? IPAddress.IPv6Loopback
            : Address;
        string host = reached.Equals(IPAddress.Loopback) ? "localhost"
            : reached.ToString().Contains(':', StringComparison.Ordinal) ? $"[{reached}]"
            : reached.ToString();
        string portPart = port == DefaultPort ? "" : ":" + port.ToString(CultureInfo.InvariantCulture);
        return $"{scheme}://{host}{portPart}/{name}";
    }

    public void Dispose()
    {
        if (_folder is not null && Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    private void Listen(NbdServer server, Invocation invocation, bool isChosen)
    {
        string? path = invocation.UnixSocket;
        if (!isChosen && invocation.Run is not null)
        {
            // Only its owner can enter it.
            _folder = Directory.CreateTempSubdirectory("nbdserve-").FullName;
            path = Path.Combine(_folder, "socket");
        }

        if (path is not null)
        {
            server.ListenUnix(path);
            UnixSocket = Path.GetFullPath(path);
        }

        if (invocation.Tcp is not null || path is null)
        {
            (Address, int port) = invocation.Tcp ?? (IPAddress.Loopback, DefaultPort);
            Port = server.ListenTcp(Address, port);
        }
    }
}
