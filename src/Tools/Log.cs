namespace Tools;

/// <summary>Standard error, a line at a time. Thread-safe. Never used for a request unless -d asks for it.</summary>
internal sealed class Log(string program, bool isVerbose)
{
    // Guards standard error, so that lines stay whole.
    private readonly Lock _gate = new();

    /// <summary>What users should know.</summary>
    internal void Write(string message)
    {
        lock (_gate)
        {
            try
            {
                Console.Error.WriteLine($"{program}: {message}");
            }
            catch (IOException)
            {
                // Nobody reads it any more; that must not end the daemon.
            }
        }
    }

    /// <summary>What is only told with -v.</summary>
    internal void Verbose(string message)
    {
        if (isVerbose)
        {
            Write(message);
        }
    }
}
