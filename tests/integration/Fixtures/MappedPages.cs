using Tmds.Linux;

namespace IntegrationTests.Fixtures;

/// <summary>A part of a file as shared memory; nobody syncs it but the kernel.</summary>
internal sealed unsafe class MappedPages(byte* start, int length) : IDisposable
{
    public Span<byte> Bytes => new(start, length);

    public void Dispose() => _ = LibC.munmap(start, length);
}
