using NbdServe;

Log log = new("nbdserve", isVerbose: false);
try
{
    Invocation? invocation = CommandLine.Parse(args, Console.Out);
    return invocation is null ? 0 : new Daemon(invocation, new Log("nbdserve", invocation.Verbose)).Run();
}
catch (Exception exception)
    when (exception is UsageException or IOException or UnauthorizedAccessException or System.Security.Cryptography.CryptographicException)
{
    log.Write(exception.Message);
    return 1;
}
