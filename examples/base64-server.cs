#!/usr/bin/env -S dotnet run
#:project ../src/NbdServer/NbdServer.csproj

// As export-name-server.cs, for binary content: the name is the content in base64. Names that are no base64 are
// refused. Try it:
//     dotnet run base64-server.cs -- --tcp 10809
//     nbdcopy nbd://localhost/aGVsbG8K -
using Nbd;

return await NbdServer.RunAsync(args, name =>
{
    Span<byte> content = new byte[name.Length];
    return Convert.TryFromBase64String(name, content, out int length) ? new Data(content[..length].ToArray()) : null;
});

internal sealed class Data(byte[] content) : NbdBackend
{
    public override long SizeBytes => content.Length;

    public override async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        content.AsMemory((int)offset, destination.Length).CopyTo(destination);
}
