#!/usr/bin/env -S dotnet run
#:project ../src/NbdClient/NbdClient.csproj

// Copies an export to a file. What reads as zeroes becomes a hole:
//     dotnet run sparse-copy.cs -- nbd://localhost/disk disk.img
using Microsoft.Win32.SafeHandles;
using Nbd;

NbdClientOptions options = new() { MetaContexts = ["base:allocation"] };
await using NbdClient disk = await NbdClient.ConnectAsync(args[0], options);
using SafeFileHandle file = File.OpenHandle(args[1], FileMode.Create, FileAccess.Write);
RandomAccess.SetLength(file, disk.SizeBytes);

byte[] buffer = new byte[4 << 20];
long copied = 0;
await foreach (NbdExtent extent in disk.GetExtentsAsync(0, disk.SizeBytes))
{
    for (long offset = extent.Offset; !extent.IsZero && offset < extent.End; offset += buffer.Length)
    {
        Memory<byte> part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, extent.End - offset));
        await disk.ReadAsync(offset, part);
        await RandomAccess.WriteAsync(file, part, offset);
        copied += part.Length;
    }
}

Console.WriteLine($"copied {copied} of {disk.SizeBytes} bytes");
