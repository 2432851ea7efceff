using Xunit.Sdk;

namespace IntegrationTests.Fixtures;

/// <summary>
/// Base of all tests here: what a test starts is ended when the test is over. A test that passed must have left
/// nothing behind (mount, process, temporary file); one that failed shows the logs of all that it started.
/// </summary>
public abstract class IntegrationTest : IDisposable
{
    private readonly List<IDisposable> _started = [];
    private readonly List<Func<string>> _logs = [];

    private protected TestDirectory Folder { get; } = new();

    /// <summary>How requests come to the nbdfuse of this test (a name of <see cref="Transports"/>); null: as it likes.</summary>
    private protected virtual string? Transport => null;

    /// <inheritdoc/>
    public void Dispose()
    {
        GC.SuppressFinalize(this);
        string? complaint = TestContext.Current.TestState?.Result == TestResult.Passed ? EndWell() : "";
        string logs = Logs();
        End();
        if (complaint is not null)
        {
            throw new XunitException(complaint + logs);
        }
    }

    /// <summary>nbdfuse at mnt/disk of the test's folder.</summary>
    private protected NbdFuseMount Mount(params string[] source) => Mount(new MountRequest { Source = source });

    private protected NbdFuseMount Mount(MountRequest request)
    {
        string[] transport = Transport is null ? [] : Transports.Options(Transport);
        NbdFuseMount mount = NbdFuseMount.Start(Folder, request with { Options = [.. transport, .. request.Options] });
        return Started(mount, mount.Process);
    }

    private protected NbdServer Nbdkit(params string[] arguments) => Started(NbdServer.Nbdkit(Folder, arguments));

    /// <summary>Our own server; when the test is over it must end well and leave nothing.</summary>
    private protected NbdServer NbdServe(params string[] arguments) => Started(NbdServer.NbdServe(Folder, arguments));

    /// <summary>nbdserve with these arguments, without waiting for anything.</summary>
    private protected BackgroundProcess LaunchNbdServe(params string[] arguments)
    {
        BackgroundProcess process = BackgroundProcess.Start(Repository.NbdServe, arguments, Folder.Temporary);
        return Started(process, process);
    }

    /// <summary>nbdserve that must end by itself; returns its exit status and what it wrote.</summary>
    private protected (int ExitCode, string Output) RunNbdServe(params string[] arguments)
    {
        BackgroundProcess process = LaunchNbdServe(arguments);
        return (process.WaitForExit(TimeSpan.FromSeconds(60)), process.Log);
    }

    private protected NbdServer NbdkitTcp(params string[] arguments) => Started(NbdServer.NbdkitTcp(Folder, arguments));

    private protected NbdServer QemuNbd(params string[] arguments) => Started(NbdServer.QemuNbd(Folder, arguments));

    private protected NbdServer QemuStorageDaemon(params string[] arguments) =>
        Started(NbdServer.QemuStorageDaemon(Folder, null, arguments));

    private protected NbdServer EncryptedQemuStorageDaemon(string credentials, params string[] arguments) =>
        Started(NbdServer.QemuStorageDaemon(Folder, credentials, arguments));

    private protected NbdServer ReferenceServer(string exportName, string image, string more = "", string general = "") =>
        Started(NbdServer.Reference(Folder, exportName, image, more, general));

    /// <summary>A program that may hang, in its own process.</summary>
    private protected BackgroundProcess Background(string program, params string[] arguments)
    {
        BackgroundProcess process = BackgroundProcess.Start(program, arguments, Folder.Path);
        return Started(process, process);
    }

    /// <summary>
    /// A program that fills 4096 bytes at 8192 with 0x5a, through a shared mapping or with write(2), and then keeps the file
    /// open and mapped.
    /// </summary>
    private protected BackgroundProcess ChangeAndStay(string path, bool isWritten = false)
    {
        BackgroundProcess program = Background(
            "python3",
            "-c",
            $"""
            import mmap, os, signal, sys
            fd = os.open(sys.argv[1], os.O_RDWR)
            if {(isWritten ? "True" : "False")}:
                os.pwrite(fd, b'Z' * 4096, 8192)
            else:
                memory = mmap.mmap(fd, 65536)
                memory[8192:12288] = b'Z' * 4096
            print('changed', flush=True)
            signal.pause()
            """,
            path);
        Wait.Until(() => program.Log.Contains("changed", StringComparison.Ordinal) || program.HasExited, "the program has changed it");
        Assert.False(program.HasExited, program.ToString());
        return program;
    }

    /// <summary>nbdfuse with these arguments, without waiting for anything.</summary>
    private protected BackgroundProcess Launch(params string[] arguments)
    {
        BackgroundProcess process = NbdFuseMount.Launch(Folder, asOrdinaryUser: false, arguments);
        return Started(process, process);
    }

    /// <summary>nbdfuse that must end by itself; returns its exit status and what it wrote.</summary>
    private protected (int ExitCode, string Output) RunNbdFuse(params string[] arguments)
    {
        BackgroundProcess process = Launch(arguments);
        return (process.WaitForExit(), process.Log);
    }

    private T Started<T>(T resource, BackgroundProcess process)
        where T : IDisposable
    {
        _started.Add(resource);
        _logs.Add(() => process.ToString());
        return resource;
    }

    private NbdServer Started(NbdServer server) => Started(server, server.Process);

    // Ends what a test that passed left running. What must not be there then is the result.
    private string? EndWell()
    {
        try
        {
            foreach (NbdFuseMount mount in _started.OfType<NbdFuseMount>().Reverse())
            {
                if (!mount.Process.HasExited)
                {
                    mount.Unmount();
                }
            }

            // Servers that the test itself started may stay until now; captive ones must be gone with their nbdfuse.
            foreach (IDisposable resource in Enumerable.Reverse(_started).Where(resource => resource is not NbdFuseMount))
            {
                resource.Dispose();
            }

            Folder.CheckNothingIsLeft();
            return null;
        }
        catch (Exception e) when (e is XunitException or TimeoutException or InvalidOperationException or IOException)
        {
            return $"the test passed, but its end did not: {e.Message}\n";
        }
    }

    private void End()
    {
        foreach (IDisposable resource in Enumerable.Reverse(_started))
        {
            resource.Dispose();
        }

        Folder.Dispose();
    }

    private string Logs() => "-- " + string.Join("\n-- ", _logs.Select(log => log()));
}
