#!/usr/bin/env -S dotnet run
#:project ../src/NbdServer/NbdServer.csproj

// Whatever export you ask for: its name is its content, and the length of the name is its size. Try it:
//     dotnet run export-name-server.cs -- --tcp 10809
//     nbdcopy nbd://localhost/hello -
using System.Text;
using Nbd;

return await NbdServer.RunAsync(args, name => new Text(Encoding.UTF8.GetBytes(name)));

internal sealed class Text(byte[] content) : NbdBackend
{
    public override long SizeBytes => content.Length;

    public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        content.AsMemory((int)offset, destination.Length).CopyTo(destination);
}
