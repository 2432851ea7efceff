using System.Reflection;

namespace NbdFuse;

/// <summary>The texts that the command line can ask for.</summary>
internal static class HelpText
{
    internal const string Usage = """

        Show an NBD export as an ordinary file:

            nbdfuse [--cache none|writethrough|writeback]
                    [--mode OCTAL] [--uid N] [--gid N] [-C N|--connections N] [--connect-timeout SECONDS] [-d]
                    [--export NAME] [-o FUSE-OPTION]
                    [--partitions] [-P FILE|--pidfile FILE|--pid-file FILE]
                    [--readahead SIZE|off]
                    [-r|--readonly|--read-only] [-s] [--transport auto|device|uring]
                    [-v|--verbose]
                    MOUNTPOINT[/FILENAME] URI

        Other sources:

            nbdfuse MOUNTPOINT[/FILENAME] [ CMD [ARGS ...] ]
            nbdfuse MOUNTPOINT[/FILENAME] --socket-activation CMD [ARGS ...]
            nbdfuse MOUNTPOINT[/FILENAME] --command CMD [ARGS ...]
            nbdfuse MOUNTPOINT[/FILENAME] --fd N
            nbdfuse MOUNTPOINT[/FILENAME] --tcp HOST PORT
            nbdfuse MOUNTPOINT[/FILENAME] --unix SOCKET
            nbdfuse MOUNTPOINT[/FILENAME] --vsock CID PORT

            With these, --export NAME says which export; a URI has it in its path.
            Also with these, for TLS (nbds:// and tls-... in a URI):
                    [--tls off|on|require] [--tls-certificates DIR]
                    [--tls-psk-file FILE] [--tls-username NAME]
                    [--tls-hostname NAME] [--tls-verify-peer|--no-tls-verify-peer]

        Every export of a server, each as a file:

            nbdfuse --all DIRECTORY URI

        To unmount:

            fusermount3 -u MOUNTPOINT

        Other options:

            nbdfuse --help
            nbdfuse --fuse-help
            nbdfuse --long-options
            nbdfuse --short-options
            nbdfuse -V|--version

        Please read the nbdfuse(1) manual page for full usage.

        """;

    internal const string FuseOptions = """
        FUSE options (-o NAME[=VALUE], repeated or separated by commas):

            allow_other            all users may use the file, as its mode allows
            allow_root             root may use it too, but no other user
            auto_unmount           unmount also when nbdfuse is killed
            default_permissions    the kernel checks file modes (always on)
            fsname=NAME            source of the mount (default: the NBD URI)
            subtype=NAME           type of the mount after "fuse." (default: nbdfuse)
            uid=N, gid=N           owner of the file (default: who runs nbdfuse)
            umask=OCTAL            permissions to take away from the file
            max_read=BYTES         largest read request
            kernel_cache, auto_cache
                                   keep cached data when the file is opened again
            direct_io              do not cache data in the kernel
            attr_timeout=SECONDS   how long the kernel may remember attributes
            entry_timeout=SECONDS  how long the kernel may remember names
            clone_fd               one /dev/fuse descriptor for each thread
            max_threads=N          threads that read requests
            ro, rw                 read-only or not
            [no]suid, [no]dev, [no]exec, [no]atime, sync, async, dirsync
                                   as for mount(8)

        Accepted, without an effect on a tree whose names never change: nonempty,
        noauto_cache, hard_remove, use_ino, readdir_ino, noforget, remember=N,
        negative_timeout=SECONDS, ac_attr_timeout=SECONDS, intr, intr_signal=N,
        no_rofd_flush, parallel_direct_writes, max_idle_threads=N.
        """;

    internal static string Version =>
        $"nbdfuse {typeof(HelpText).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()
            ?.InformationalVersion.Split('+')[0]}";
}
