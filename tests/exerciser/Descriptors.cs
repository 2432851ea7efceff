using Tmds.Linux;

namespace Exerciser;

/// <summary>One thread's descriptors of the file.</summary>
internal sealed class Descriptors(Bench bench) : IDisposable
{
    public DiskFile Buffered { get; } = DiskFile.Open(bench.Settings.File, LibC.O_RDWR);

    public DiskFile Direct { get; } = DiskFile.Open(bench.Settings.File, LibC.O_RDWR | LibC.O_DIRECT);

    public DiskFile Durable { get; } = DiskFile.Open(bench.Settings.File, LibC.O_RDWR | LibC.O_DSYNC);

    public DiskFile Appending { get; } = DiskFile.Open(bench.Settings.File, LibC.O_WRONLY | LibC.O_APPEND);

    public void Dispose()
    {
        Buffered.Dispose();
        Direct.Dispose();
        Durable.Dispose();
        Appending.Dispose();
    }
}
