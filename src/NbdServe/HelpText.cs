using System.Reflection;

namespace NbdServe;

/// <summary>The texts that the command line can ask for.</summary>
internal static class HelpText
{
    internal const string Usage = """

        Serve a disk over NBD:

            nbdserve BACKEND [ARGS] [OPTIONS]

        Backends:

            memory SIZE           a sparse disk in memory
            file PATH             a raw file or a block device
                [--create SIZE]   which is made first
            pattern SIZE          every eight bytes hold their own offset
            null SIZE             zeroes; what is written is forgotten
            sparse-random SIZE    islands of data in a sea of holes; writes are compared
                [--seed N] [--percent P] [--runlength SIZE] [--random-content]

        Where (default: TCP port 10809 of this machine, with --run a private socket):

            --unix PATH           a Unix socket
            --tcp [ADDR:]PORT     a TCP port, of this machine only without ADDR
            -s                    one client on standard input and output

        More:

            --run CMD             run a shell command with $uri, end with its exit status
            --export NAME         name of the export (default: empty)
            --export NAME=BACKEND another export, such as --export 'disk=memory 1G'
            -r|--readonly         clients cannot write
            --tls-certificates DIR  [--tls require|on|off] [--tls-verify-peer]
            -P|--pidfile FILE     written when clients can connect
            --exit-with-parent    end when the parent process ends
            -v|--verbose          tell what happens

            nbdserve --help
            nbdserve --long-options
            nbdserve --short-options
            nbdserve -V|--version

        Please read the nbdserve(1) manual page for full usage.

        """;

    internal static string Version =>
        $"nbdserve {typeof(HelpText).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()
            ?.InformationalVersion.Split('+')[0]}";
}
