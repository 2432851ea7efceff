using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>A program of examples/ that serves on a Unix socket.</summary>
internal sealed class ExampleServer
{
    private readonly string _socket;

    /// <summary>Compiles and runs it with <paramref name="start"/>, and waits until it serves.</summary>
    public ExampleServer(Func<string, string[], BackgroundProcess> start, string name, string socket)
    {
        _socket = socket;
        BackgroundProcess process = start(
            "dotnet", ["run", Path.Combine(Repository.Root, "examples", name), "--", "--unix", socket]);
        // It is compiled first.
        Wait.Until(
            () => File.Exists(socket) || process.HasExited, $"the example is ready: {process}", TimeSpan.FromMinutes(3));
        Assert.False(process.HasExited, process.ToString());
    }

    public string UriOf(string export) => $"nbd+unix:///{export}?socket={_socket}";

    /// <summary>The example itself gets the signal: "dotnet run" would kill it when it gets one.</summary>
    public void Stop()
    {
        foreach ((int id, string commandLine) in ProcessTable.Mentioning(_socket))
        {
            if (!commandLine.Contains("dotnet run", StringComparison.Ordinal))
            {
                _ = LibC.kill(id, LibC.SIGTERM);
            }
        }

        Wait.Until(() => ProcessTable.Mentioning(_socket).Count == 0, "the example has ended");
        Assert.False(File.Exists(_socket), "the socket is still there");
    }
}
