using Linux;

namespace Nbd;

internal static class SocketConnector
{
    internal static SafeFd Connect(NbdEndpoint endpoint, Deadline deadline, CancellationToken cancellationToken) =>
        throw new NotImplementedException();
}
