using Linux;

namespace Nbd.Protocol;

/// <summary>Error numbers of the wire (proto.md, "Error values").</summary>
public static class NbdError
{
    /// <summary>
    /// The errno for an NBD error. Zero is success; a number that the specification does not define is EINVAL,
    /// as it asks.
    /// </summary>
    public static Errno ToErrno(uint error) => error switch
    {
        0 => Errno.None,
        1 => Errno.EPERM,
        5 => Errno.EIO,
        12 => Errno.ENOMEM,
        22 => Errno.EINVAL,
        28 => Errno.ENOSPC,
        75 => Errno.EOVERFLOW,
        95 => Errno.EOPNOTSUPP,
        108 => Errno.ESHUTDOWN,
        _ => Errno.EINVAL,
    };
}
