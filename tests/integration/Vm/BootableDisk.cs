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

    private const string Script =
        """
        b=/bin/busybox
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
        Tool.Run("mcopy", "-i", partition, Initramfs.Kernel, "::vmlinuz");
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
        Initramfs initramfs = new(folder);
        initramfs.AddModule("virtio_pci");
        initramfs.AddModule("virtio_blk");
        string archive = folder.FileAt("initrd.gz");
        initramfs.Write(archive, Script);
        return archive;
    }
}
