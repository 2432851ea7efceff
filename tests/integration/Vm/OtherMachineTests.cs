namespace IntegrationTests.Vm;

/// <summary>nbdfuse on a machine that is not like this one: Debian's kernel, eight processors.</summary>
[Trait("Speed", "Slow")]
public sealed class OtherMachineTests : IntegrationTest
{
    // From eight processors on each worker has a descriptor of the device of its own.
    private const string Script =
        """
        b=/bin/busybox
        $b mount -t proc proc /proc
        $b mount -t sysfs sys /sys
        $b mount -t tmpfs tmp /tmp
        wait_until() {
            n=0
            until eval "$1"; do
                n=$((n + 1))
                if [ $n -gt 600 ]; then echo "in vain: $1"; $b poweroff -f; fi
                $b sleep 0.1
            done
        }
        mounted() {
            /bin/nbdfuse -v -P /tmp/pid /mnt/disk [ /bin/nbdserve memory 32M ] &
            nbdfuse=$!
            wait_until '[ -s /tmp/pid ]'
        }
        left() {
            wait $nbdfuse
            echo "$1-STATUS $?"
            $b grep fuse /proc/mounts
            $b grep -l nbdserve /proc/[0-9]*/comm
        }

        echo "KERNEL $($b uname -r) PROCESSORS $($b nproc)"
        $b dd if=/dev/urandom of=/tmp/data bs=1M count=16
        mounted
        echo "DEVICES $($b ls -l /proc/$nbdfuse/fd | $b grep -c /dev/fuse)"
        at_work=
        for i in 0 1 2 3 4 5 6 7; do
            $b dd if=/tmp/data of=/mnt/disk bs=16k skip=$((i * 128)) seek=$((i * 128)) count=128 conv=notrunc &
            at_work="$at_work $!"
        done
        wait $at_work
        echo 3 >/proc/sys/vm/drop_caches
        at_work=
        for i in 0 1 2 3 4 5 6 7; do
            $b head -c 16777216 /mnt/disk | $b cmp - /tmp/data && echo SAME-DATA &
            at_work="$at_work $!"
        done
        wait $at_work
        $b umount /mnt
        left UNMOUNT

        mounted
        while $b dd if=/mnt/disk of=/dev/null bs=4k 2>/tmp/errors; do :; done &
        $b kill -TERM $nbdfuse
        left TERM
        echo MACHINE-IS-DONE
        $b poweroff -f

        """;

    [Fact]
    public void Debians_kernel_with_eight_processors()
    {
        Initramfs initramfs = new(Folder);
        initramfs.AddModule("fuse");
        initramfs.AddProgram(Repository.NbdFuse);
        initramfs.AddProgram(Repository.NbdServe);
        string archive = Folder.FileAt("initrd.gz");
        initramfs.Write(archive, Script);

        string serial = VirtualMachine.RunKernel(Initramfs.Kernel, archive, processors: 8);

        string[] expected =
        [
            "PROCESSORS 8\n",
            "requests come through /dev/fuse; FUSE over io_uring cannot be used",
            "DEVICES 2\n",
            "UNMOUNT-STATUS 0\n",
            "TERM-STATUS 0\nMACHINE-IS-DONE\n",
        ];
        Assert.All(
            expected, text => Assert.True(serial.Contains(text, StringComparison.Ordinal), $"not '{text}' in: {serial}"));
        Assert.Equal(8, serial.Split("SAME-DATA").Length - 1);
    }
}
