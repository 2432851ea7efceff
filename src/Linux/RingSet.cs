namespace Linux;

/// <summary>Ring loops that are made as they are needed. Not thread-safe, but for reading what was made.</summary>
/// <param name="name">Names their threads.</param>
public sealed class RingSet(string name) : IDisposable
{
    private readonly List<RingLoop> _loops = [];

    /// <summary>The loops made so far; each has its place as its <see cref="RingLoop.Index"/>.</summary>
    public IReadOnlyList<RingLoop> Loops => _loops;

    /// <summary>A loop, made if there are not as many yet.</summary>
    /// <exception cref="LinuxException">As for the constructor of <see cref="RingLoop"/>.</exception>
    public RingLoop Get(int index)
    {
        while (_loops.Count <= index)
        {
            _loops.Add(new RingLoop(_loops.Count, name));
        }

        return _loops[index];
    }

    /// <summary>Ends all loops.</summary>
    public void Dispose() => _loops.ForEach(loop => loop.Dispose());
}
