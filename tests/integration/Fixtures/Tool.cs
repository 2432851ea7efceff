using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>Runs programs to their end, with a limit, so that a hang is a failure and not a stuck test run.</summary>
internal static class Tool
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(60);

    /// <summary>Runs a program that must succeed; returns what it wrote.</summary>
    public static string Run(string program, params string[] arguments) => Run(s_limit, program, arguments);

    /// <summary>The same with another limit.</summary>
    public static string Run(TimeSpan limit, string program, params string[] arguments)
    {
        (int exitCode, string output) = Try(limit, program, arguments);
        return exitCode == 0
            ? output
            : throw new InvalidOperationException(
                $"{program} {string.Join(' ', arguments)}: exit status {exitCode}\n{output}");
    }

    /// <summary>Runs a program; returns its exit status and what it wrote.</summary>
    public static (int ExitCode, string Output) Try(string program, params string[] arguments) =>
        Try(s_limit, program, arguments);

    /// <summary>The same with another limit.</summary>
    public static (int ExitCode, string Output) Try(TimeSpan limit, string program, params string[] arguments)
    {
        using BackgroundProcess process = BackgroundProcess.Start(program, arguments);
        process.WaitForExit(limit);
        return (process.ExitCode, process.Log);
    }

    /// <summary>
    /// Runs a script with libnbd's Python bindings; "h" is a handle that negotiates base:allocation and is connected
    /// to <paramref name="uri"/>.
    /// </summary>
    public static string Python(string uri, string script) => Run(
        "/usr/bin/python3",
        "-c",
        "import nbd, sys\nh = nbd.NBD()\nh.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)\nh.connect_uri(sys.argv[1])\n" + script,
        uri);

    /// <summary>
    /// The command line that runs a program as "nobody" when we are root. As an ordinary user it stays as it is.
    /// </summary>
    public static string[] AsOrdinaryUser(params string[] commandLine) =>
        LibC.geteuid() == 0
            ? ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--", .. commandLine]
            : commandLine;
}
