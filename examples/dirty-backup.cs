#!/usr/bin/env -S dotnet run
#:project ../src/NbdClient/NbdClient.csproj

// Brings a raw copy of a qcow2 image up to date: only what a bitmap of the image calls dirty is read.
//     qemu-img create -f qcow2 disk.qcow2 1G
//     qemu-img convert disk.qcow2 copy.raw
//     qemu-img bitmap --add disk.qcow2 since-copy
//     ... the disk is used ...
//     dotnet run dirty-backup.cs -- disk.qcow2 since-copy copy.raw
using Microsoft.Win32.SafeHandles;
using Nbd;

string context = $"qemu:dirty-bitmap:{args[1]}";
await using NbdClient disk = await NbdClient.ConnectAsync(
    new NbdEndpoint.SocketActivation(["qemu-nbd", "--read-only", "-f", "qcow2", "-B", args[1], args[0]]),
    options: new NbdClientOptions { MetaContexts = [context] });
using SafeFileHandle copy = File.OpenHandle(args[2], FileMode.Open, FileAccess.Write);

byte[] buffer = new byte[4 << 20];
long copied = 0;
await foreach (NbdExtent extent in disk.GetExtentsAsync(0, disk.SizeBytes, context))
{
    bool isDirty = (extent.Flags & NbdExtent.Dirty) != 0;
    for (long offset = extent.Offset; isDirty && offset < extent.End; offset += buffer.Length)
    {
        Memory<byte> part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, extent.End - offset));
        await disk.ReadAsync(offset, part);
        await RandomAccess.WriteAsync(copy, part, offset);
        copied += part.Length;
    }
}

Console.WriteLine($"copied {copied} of {disk.SizeBytes} bytes");
