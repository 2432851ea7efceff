namespace Nbd.Protocol;

/// <summary>Kinds of information about an export (proto.md, "NBD_INFO_*").</summary>
public enum NbdInfoType : ushort
{
    /// <summary>NBD_INFO_EXPORT: size and transmission flags; always sent.</summary>
    Export = 0,

    /// <summary>NBD_INFO_NAME: the server's own name for the export.</summary>
    Name = 1,

    /// <summary>NBD_INFO_DESCRIPTION.</summary>
    Description = 2,

    /// <summary>NBD_INFO_BLOCK_SIZE.</summary>
    BlockSize = 3,
}
