using Fuse;
using Linux;
using Nbd;
using NbdFuse;

if (SizeCorrection.IsAskedFor(args))
{
    return SizeCorrection.Run(args);
}

if (CachePush.IsAskedFor(args))
{
    return CachePush.Run(args);
}

if (WriteBackProcess.IsAskedFor(args))
{
    return WriteBackProcess.Run(args);
}

Log log = new("nbdfuse", isVerbose: false);
try
{
    Invocation? invocation = CommandLine.Parse(args, Console.Out, log.Write);
    return invocation is null ? 0 : Daemon.Run(invocation, new Log("nbdfuse", invocation.Verbose));
}
catch (Exception exception)
    when (exception is UsageException or NbdException or LinuxException or FuseException or IOException)
{
    log.Write(exception.Message);
    return 1;
}
