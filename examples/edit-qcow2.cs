#!/usr/bin/env -S dotnet run
#:project ../src/NbdClient/NbdClient.csproj

// The virtual size of a qcow2 image; its first sector is read, gets the mark of a boot sector, and is written back:
//     qemu-img create -f qcow2 disk.qcow2 1G
//     dotnet run edit-qcow2.cs -- disk.qcow2
using Nbd;

// qemu-nbd is started for us, and has ended when the client is disposed.
await using NbdClient disk = await NbdClient.ConnectAsync(
    new NbdEndpoint.SocketActivation(["qemu-nbd", "-f", "qcow2", args[0]]));
Console.WriteLine($"virtual size: {disk.SizeBytes} bytes");

byte[] sector = new byte[512];
await disk.ReadAsync(0, sector);
Console.WriteLine($"mark before: {sector[510]:x2}{sector[511]:x2}");

(sector[510], sector[511]) = (0x55, 0xaa);
await disk.WriteAsync(0, sector);
await disk.FlushAsync();
Console.WriteLine("mark now: 55aa");
