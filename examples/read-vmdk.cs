#!/usr/bin/env -S dotnet run
#:project ../src/NbdClient/NbdClient.csproj

// Which parts of a VMDK image hold data, and how each of them begins:
//     qemu-img create -f vmdk disk.vmdk 1G
//     dotnet run read-vmdk.cs -- disk.vmdk
using Nbd;

await using NbdClient disk = await NbdClient.ConnectAsync(
    new NbdEndpoint.SocketActivation(["qemu-nbd", "--read-only", "-f", "vmdk", args[0]]),
    options: new NbdClientOptions { MetaContexts = ["base:allocation"] });
Console.WriteLine($"virtual size: {disk.SizeBytes} bytes");

byte[] start = new byte[16];
await foreach (NbdExtent extent in disk.GetExtentsAsync(0, disk.SizeBytes))
{
    string content = "zeroes";
    if (!extent.IsZero)
    {
        Memory<byte> part = start.AsMemory(0, (int)Math.Min(start.Length, extent.Length));
        await disk.ReadAsync(extent.Offset, part);
        content = $"data, {Convert.ToHexStringLower(part.Span)}...";
    }

    Console.WriteLine($"{extent.Offset,14} {extent.Length,14}  {content}");
}
