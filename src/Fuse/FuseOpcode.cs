namespace Fuse;

/// <summary>What a request asks for (enum fuse_opcode of the kernel's ABI 7.45).</summary>
public enum FuseOpcode : uint
{
    /// <summary>Finds a name in a directory.</summary>
    Lookup = 1,

    /// <summary>Drops lookups of a node. No reply.</summary>
    Forget = 2,

    /// <summary>Reads attributes.</summary>
    GetAttr = 3,

    /// <summary>Changes attributes.</summary>
    SetAttr = 4,

    /// <summary>Reads the target of a symbolic link.</summary>
    ReadLink = 5,

    /// <summary>Makes a symbolic link.</summary>
    SymLink = 6,

    /// <summary>Makes a node.</summary>
    MkNod = 8,

    /// <summary>Makes a directory.</summary>
    MkDir = 9,

    /// <summary>Removes a name.</summary>
    Unlink = 10,

    /// <summary>Removes a directory.</summary>
    RmDir = 11,

    /// <summary>Renames, without flags.</summary>
    Rename = 12,

    /// <summary>Makes a hard link.</summary>
    Link = 13,

    /// <summary>Opens a file.</summary>
    Open = 14,

    /// <summary>Reads data.</summary>
    Read = 15,

    /// <summary>Writes data.</summary>
    Write = 16,

    /// <summary>Reads figures about the file system.</summary>
    StatFs = 17,

    /// <summary>The last close of an open file.</summary>
    Release = 18,

    /// <summary>Makes written data durable.</summary>
    Fsync = 20,

    /// <summary>Sets an extended attribute.</summary>
    SetXattr = 21,

    /// <summary>Reads an extended attribute.</summary>
    GetXattr = 22,

    /// <summary>Lists extended attributes.</summary>
    ListXattr = 23,

    /// <summary>Removes an extended attribute.</summary>
    RemoveXattr = 24,

    /// <summary>A close(2) of an open file.</summary>
    Flush = 25,

    /// <summary>Negotiates the connection: the first request.</summary>
    Init = 26,

    /// <summary>Opens a directory.</summary>
    OpenDir = 27,

    /// <summary>Reads directory entries.</summary>
    ReadDir = 28,

    /// <summary>The last close of an open directory.</summary>
    ReleaseDir = 29,

    /// <summary>Makes a directory durable.</summary>
    FsyncDir = 30,

    /// <summary>Tests a POSIX lock.</summary>
    GetLock = 31,

    /// <summary>Takes or frees a POSIX lock.</summary>
    SetLock = 32,

    /// <summary>Takes a POSIX lock, waits for it.</summary>
    SetLockWait = 33,

    /// <summary>Checks permissions, for access(2).</summary>
    Access = 34,

    /// <summary>Makes and opens a file.</summary>
    Create = 35,

    /// <summary>The requester of another request got a signal.</summary>
    Interrupt = 36,

    /// <summary>Maps a block of a file to a block of the device.</summary>
    BMap = 37,

    /// <summary>The file system is gone. Not sent for plain fuse mounts.</summary>
    Destroy = 38,

    /// <summary>ioctl(2) of an open file.</summary>
    Ioctl = 39,

    /// <summary>poll(2) of an open file.</summary>
    Poll = 40,

    /// <summary>Answers a RETRIEVE notification.</summary>
    NotifyReply = 41,

    /// <summary>Many FORGETs. No reply.</summary>
    BatchForget = 42,

    /// <summary>Allocates, punches or zeroes a range.</summary>
    Fallocate = 43,

    /// <summary>Reads directory entries with their attributes.</summary>
    ReadDirPlus = 44,

    /// <summary>Renames, with flags.</summary>
    Rename2 = 45,

    /// <summary>Seeks for data or for a hole.</summary>
    Lseek = 46,

    /// <summary>Copies a range between open files; the result has 32 bits.</summary>
    CopyFileRange = 47,

    /// <summary>Maps a range for DAX.</summary>
    SetupMapping = 48,

    /// <summary>Unmaps a range of DAX.</summary>
    RemoveMapping = 49,

    /// <summary>syncfs(2). Not sent for plain fuse mounts.</summary>
    SyncFs = 50,

    /// <summary>Makes and opens a file without a name.</summary>
    TmpFile = 51,

    /// <summary>Reads extended attributes of a node as statx(2) has them.</summary>
    StatX = 52,

    /// <summary>Copies a range between open files; the result has 64 bits.</summary>
    CopyFileRange64 = 53,
}
