#!/usr/bin/env -S dotnet run
#:project ../src/NbdServer/NbdServer.csproj

// A complete NBD server: a disk of 1 MiB in memory. Try it:
//     dotnet run complete-server.cs -- --unix /tmp/disk.sock
//     nbdcopy image 'nbd+unix:///?socket=/tmp/disk.sock'
using Nbd;

byte[] content = new byte[1 << 20];
return await NbdServer.RunAsync(args, _ => new Disk(content));

internal sealed class Disk(byte[] content) : NbdBackend
{
    public override long SizeBytes => content.Length;
    public override NbdBackendCapabilities Capabilities => NbdBackendCapabilities.None;

    public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        content.AsMemory((int)offset, destination.Length).CopyTo(destination);

    public override async ValueTask WriteAsync(
        long offset, ReadOnlyMemory<byte> source, bool forceUnitAccess, CancellationToken cancellationToken) =>
        source.CopyTo(content.AsMemory((int)offset));
}
