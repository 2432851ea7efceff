using Linux;

namespace Nbd;

internal static class NbdHandshake
{
    internal static NegotiatedConnection Run(
        SafeFd socket,
        string exportName,
        string peerDescription,
        Deadline deadline,
        CancellationToken cancellationToken) => throw new NotImplementedException();
}
