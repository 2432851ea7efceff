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

    /// <summary>
    /// The NBD error for an errno; what the specification does not define is EIO.
    /// </summary>
    public static uint FromErrno(Errno errno) => errno switch
    {
        Errno.None => 0,
        Errno.EPERM or Errno.EACCES or Errno.EROFS => 1,
        Errno.ENOMEM => 12,
        Errno.EINVAL => 22,
        Errno.ENOSPC or Errno.EFBIG or (Errno)DiskQuotaExceeded => 28,
        Errno.EOVERFLOW => 75,
        Errno.EOPNOTSUPP => 95,
        Errno.ESHUTDOWN => 108,
        _ => 5,
    };

    private const int DiskQuotaExceeded = 122;
}
