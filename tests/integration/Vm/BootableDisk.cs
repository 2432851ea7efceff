namespace IntegrationTests.Vm;

/// <summary>
/// A small Linux on a disk image: Debian's kernel, busybox, and a boot loader on a FAT file system; an ext4 file system
/// for data behind it. All is written through the disk's file, without loop devices.
/// </summary>
internal sealed class BootableDisk(TestDirectory folder)
{
    public const long SizeBytes = 128L << 20;

    private const int FirstSector = 2048;
    private const int BootSectors = 64 << 11;
    private const string MasterBootRecord = "/usr/lib/SYSLINUX/mbr.bin";

    private const string Init =
        """
        #!/bin/busybox sh
        b=/bin/busybox
        $b mount -t devtmpfs dev /dev
        exec >/dev/ttyS0 2>&1
        for module in $($b cat /lib/order); do $b insmod /lib/$module; done
        n=0
        while [ ! -b /dev/vda2 ] && [ $n -lt 100 ]; do $b sleep 0.1; n=$((n + 1)); done
        $b mount -t ext4 /dev/vda2 /mnt
        $b cat /mnt/host.txt
        echo "written by the guest" >/mnt/guest.txt
        $b dd if=/mnt/host.bin of=/mnt/copy.bin bs=64k
        $b umount /mnt
        echo GUEST-IS-DONE
        $b poweroff -f

        """;

    private static readonly string s_kernel =
        Directory.GetFiles("/boot", "vmlinuz-*-cloud-amd64").Order(StringComparer.Ordinal).Last();

    public string DataPartition { get; } = $"?offset={(long)(FirstSector + BootSectors) << 9}";

    /// <summary>Makes the disk bootable. Its data partition gets host.txt and host.bin.</summary>
    public void Install(string disk, byte[] hostData)
    {
        string table = $"label: dos\\nstart={FirstSector}, size={BootSectors}, type=c, bootable\\nstart={FirstSector + BootSectors}, type=83\\n";
        Tool.Run("sh", "-c", $"printf '{table}' | sfdisk -q {disk}");
        Tool.Run("dd", $"if={MasterBootRecord}", $"of={disk}", "conv=notrunc", "status=none");
        Tool.Run("mkfs.vfat", "-F", "16", "--offset", $"{FirstSector}", disk, $"{BootSectors / 2}");
        string configuration = folder.FileAt("syslinux.cfg");
        File.WriteAllText(
            configuration,
            "SERIAL 0 115200\nDEFAULT linux\nLABEL linux\nKERNEL vmlinuz\nINITRD initrd.gz\nAPPEND console=ttyS0 quiet panic=-1\n");
        string partition = $"{disk}@@{FirstSector << 9}";
        Tool.Run("mcopy", "-i", partition, s_kernel, "::vmlinuz");
        Tool.Run("mcopy", "-i", partition, MakeInitramfs(), configuration, "::");
        Tool.Run("syslinux", "--install", "--offset", $"{FirstSector << 9}", disk);

        string content = folder.Folder("content");
        File.WriteAllText(System.IO.Path.Combine(content, "host.txt"), "HELLO-FROM-THE-HOST\n");
        File.WriteAllBytes(System.IO.Path.Combine(content, "host.bin"), hostData);
        long blocks = (SizeBytes >> 10) - ((FirstSector + BootSectors) / 2);
        Tool.Run(
            "mkfs.ext4", "-q", "-F", "-d", content, "-E", $"offset={(long)(FirstSector + BootSectors) << 9}", disk, $"{blocks}k");
    }

    private string MakeInitramfs()
    {
        string root = folder.Folder("initramfs");
        foreach (string name in new[] { "bin", "dev", "lib", "mnt" })
        {
            Directory.CreateDirectory(System.IO.Path.Combine(root, name));
        }

        File.Copy("/bin/busybox", System.IO.Path.Combine(root, "bin/busybox"));
        string modules = $"/lib/modules/{System.IO.Path.GetFileName(s_kernel)["vmlinuz-".Length..]}";
        string[] needed = [.. InOrder(modules, "virtio_pci"), .. InOrder(modules, "virtio_blk")];
        foreach (string module in needed.Distinct())
        {
            File.Copy(System.IO.Path.Combine(modules, module), System.IO.Path.Combine(root, "lib", System.IO.Path.GetFileName(module)));
        }

        File.WriteAllLines(System.IO.Path.Combine(root, "lib/order"), needed.Distinct().Select(System.IO.Path.GetFileName)!);
        string init = System.IO.Path.Combine(root, "init");
        File.WriteAllText(init, Init);
        File.SetUnixFileMode(init, (UnixFileMode)0x1ed);
        string archive = folder.FileAt("initrd.gz");
        Tool.Run("sh", "-ec", $"cd {root} && find . | cpio -o -H newc --quiet | gzip -1 > {archive}");
        return archive;
    }

    // modules.dep has what a module needs behind its colon, last needed first.
    private static IEnumerable<string> InOrder(string modules, string name) =>
        File.ReadLines(System.IO.Path.Combine(modules, "modules.dep"))
            .Single(line => line.Split(':')[0].EndsWith($"/{name}.ko", StringComparison.Ordinal))
            .Split([' ', ':'], StringSplitOptions.RemoveEmptyEntries)
            .Reverse();
}
