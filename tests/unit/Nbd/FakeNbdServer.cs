using System.Net.Sockets;
using global::Nbd;

namespace UnitTests.Nbd;

/// <summary>
/// A server that follows a script: the n-th connection runs the n-th script on a thread of its own. What a script
/// did not expect, or waits for in vain, fails the test in <see cref="Finish"/> with the bytes of both sides.
/// </summary>
internal sealed class FakeNbdServer : IDisposable
{
    /// <summary>No wait in a test lasts longer; only a test that fails gets here.</summary>
    internal static readonly TimeSpan TimeLimit = TimeSpan.FromSeconds(20);

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("nbd-");
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly List<Task> _scripts = [];

    internal FakeNbdServer(params Action<FakePeer>[] scripts)
    {
        string path = Path.Combine(_directory.FullName, "s");
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen(16);
        Endpoint = new NbdEndpoint.Unix(path);
        Task<Socket> previous = Task.FromResult(_listener);
        foreach (Action<FakePeer> script in scripts)
        {
            // Connections are accepted in the order of the scripts.
            Task<Socket> accepted = AcceptAfter(previous);
            previous = accepted;
            _scripts.Add(Task.Factory.StartNew(
                () => Play(script, accepted),
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default));
        }
    }

    internal NbdEndpoint.Unix Endpoint { get; }

    /// <summary>Waits for the end of all scripts and throws what went wrong in them.</summary>
    internal void Finish()
    {
        foreach (Task script in _scripts)
        {
            if (!Task.WaitAll([script], TimeLimit))
            {
                Assert.Fail("a script of the fake server did not end");
            }
        }
    }

    public void Dispose()
    {
        _listener.Dispose();
        _directory.Delete(recursive: true);
    }

    private async Task<Socket> AcceptAfter(Task<Socket> previous)
    {
        await previous.ConfigureAwait(false);
        return await _listener.AcceptAsync().WaitAsync(TimeLimit).ConfigureAwait(false);
    }

    private static void Play(Action<FakePeer> script, Task<Socket> accepted)
    {
        using FakePeer peer = new(accepted.GetAwaiter().GetResult());
        script(peer);
    }
}
