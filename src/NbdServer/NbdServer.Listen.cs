using System.Globalization;
using System.Net;
using Linux;

namespace Nbd;

// Where clients come from.
public sealed partial class NbdServer
{
    // sd_listen_fds(3).
    private const int FirstActivatedFd = 3;

    /// <summary>Listens on a Unix socket. The file is removed when the server stops.</summary>
    /// <param name="path">Up to 107 bytes; must not exist.</param>
    /// <exception cref="LinuxException">E.g. EADDRINUSE: the path exists.</exception>
    public void ListenUnix(string path) => Add(Listener.Unix(path));

    /// <summary>Listens on a TCP port.</summary>
    /// <param name="address">Local address; IPv6Any takes IPv4 too.</param>
    /// <param name="port">0 to 65535; 0 lets the system choose.</param>
    /// <returns>The port.</returns>
    /// <exception cref="LinuxException">E.g. EADDRINUSE.</exception>
    public int ListenTcp(IPAddress address, int port)
    {
        Add(Listener.Tcp(address, port, out int boundPort));
        return boundPort;
    }

    /// <summary>Listens on a socket that is bound and listening already, and owns it from now on.</summary>
    /// <exception cref="LinuxException">It is none.</exception>
    public void ListenInherited(SafeFd listeningSocket) => Add(Listener.Inherited(listeningSocket));

    /// <summary>
    /// Listens on the sockets that were passed by socket activation (LISTEN_PID, LISTEN_FDS), and removes these
    /// variables from the environment.
    /// </summary>
    /// <returns>False when there are none.</returns>
    /// <exception cref="LinuxException">One of them is not listening: the unit of the socket must have Accept=no.</exception>
    public bool ListenActivated()
    {
        string? pid = Environment.GetEnvironmentVariable("LISTEN_PID");
        string? fds = Environment.GetEnvironmentVariable("LISTEN_FDS");
        foreach (string variable in (string[])["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"])
        {
            Environment.SetEnvironmentVariable(variable, null);
        }

        if (pid != Environment.ProcessId.ToString(CultureInfo.InvariantCulture)
            || !int.TryParse(fds, NumberStyles.None, CultureInfo.InvariantCulture, out int count)
            || count == 0)
        {
            return false;
        }

        for (int i = 0; i < count; i++)
        {
            ListenInherited(new SafeFd(FirstActivatedFd + i));
        }

        return true;
    }

    private void Add(Listener listener)
    {
        lock (_gate)
        {
            if (_acceptLoop is null && _stopped is null)
            {
                _listeners.Add(listener);
                return;
            }
        }

        listener.Dispose();
        throw new InvalidOperationException("the server was started or stopped before");
    }
}
