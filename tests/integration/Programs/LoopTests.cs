namespace IntegrationTests.Programs;

/// <summary>The disk as a block device: a file system on it is mounted by the kernel.</summary>
public sealed class LoopTests : ProgramTest
{
    private const long SizeBytes = 256L << 20;

    [Theory]
    [InlineData("qcow2", false, "ext4")]
    [InlineData("qcow2", true, "ext4")]
    [InlineData("nbdkit memory", true, "xfs")]
    [InlineData("nbdkit file", false, "ext4")]
    [InlineData("nbdserve file", true, "ext4")]
    public void A_file_system_is_used_trimmed_and_clean(string server, bool direct, string type)
    {
        long size = type == "xfs" ? 320L << 20 : SizeBytes;
        DiskPair disks = Disks(server, size);
        string folder = Folder.Folder("fs");
        using (LoopDevice loop = new(disks.Disk, folder, direct))
        {
            Tool.Run($"mkfs.{type}", "-q", loop.Device);
            loop.Mount();
            Use(folder);
            string kept = Tool.Run("sh", "-c", $"cd {folder} && find . -type f | sort | xargs sha256sum");
            string trimmed = Tool.Run("fstrim", "-v", folder);
            loop.Unmount();
            loop.Mount("ro");
            Assert.Equal(kept, Tool.Run("sh", "-c", $"cd {folder} && find . -type f | sort | xargs sha256sum"));
            Assert.DoesNotContain(": 0 B", trimmed);
            loop.Unmount();
        }

        Tool.Run(type == "xfs" ? "xfs_repair" : "e2fsck", [.. type == "xfs" ? ["-n", "-f"] : new[] { "-f", "-n" }, disks.Disk]);
        Tool.Run("cp", "--sparse=always", disks.Disk, disks.Local);
        disks.CheckEqualToTheEnd();
    }

    [Theory]
    [InlineData("qcow2")]
    [InlineData("nbdserve file")]
    public void A_database_on_it_is_the_same_as_elsewhere(string server)
    {
        const string Script =
            """
            PRAGMA journal_mode=WAL;
            CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) INSERT INTO t SELECT i, hex(i*7919) FROM n;
            CREATE INDEX ix ON t(x);
            DELETE FROM t WHERE id % 3 = 0;
            UPDATE t SET x = x || 'y' WHERE id % 7 = 0;
            VACUUM;
            """;
        DiskPair disks = Disks(server, SizeBytes);
        string folder = Folder.Folder("fs");
        string local = Folder.FileAt("local.db");
        Tool.Run("mkfs.ext4", "-q", "-F", disks.Disk);
        using (LoopDevice loop = new(disks.Disk, folder, direct: true))
        {
            loop.Mount();
            foreach (string database in new[] { local, Path(folder, "disk.db") })
            {
                Tool.Run("sqlite3", database, Script);
            }

            loop.Unmount();
            loop.Mount();
            Assert.Equal("ok", Tool.Run("sqlite3", Path(folder, "disk.db"), "PRAGMA integrity_check").Trim());
            Assert.Equal(Tool.Run("sqlite3", local, ".dump"), Tool.Run("sqlite3", Path(folder, "disk.db"), ".dump"));
            loop.Unmount();
        }

        Tool.Run("e2fsck", "-f", "-n", disks.Disk);
    }

    [Theory]
    [Trait("Speed", "Slow")]
    [InlineData("qcow2")]
    [InlineData("nbdkit file")]
    [InlineData("nbdserve file")]
    public void A_file_system_under_stress_stays_sound(string server)
    {
        DiskPair disks = Disks(server, 1L << 30);
        string folder = Folder.Folder("fs");
        Tool.Run("mkfs.ext4", "-q", "-F", disks.Disk);
        using (LoopDevice loop = new(disks.Disk, folder, direct: false))
        {
            loop.Mount("discard");
            Tool.Run(
                TimeSpan.FromMinutes(4),
                "stress-ng", "--temp-path", folder, "--timeout", "20", "--verify", "--hdd", "1", "--hdd-bytes", "64M",
                "--hdd-opts", "wr-rnd,rd-rnd,fsync", "--fallocate", "1", "--fallocate-bytes", "64M",
                "--copy-file", "1", "--mmap", "1", "--mmap-file", "--mmap-bytes", "32M", "--aio", "1", "--readahead", "1",
                "--readahead-bytes", "32M", "--seek", "1", "--sync-file", "1", "--dir", "1", "--rename", "1");
            Tool.Run("fstrim", folder);
            loop.Unmount();
        }

        Tool.Run("e2fsck", "-f", "-n", disks.Disk);
        Tool.Run("cp", "--sparse=always", disks.Disk, disks.Local);
        disks.CheckEqualToTheEnd();
    }

    // What an installation does: many files, holes, removals, renames, a sync.
    private static void Use(string folder) => Tool.Run(
        "sh",
        "-ec",
        """
        cd "$0"
        for d in 1 2 3 4; do
            mkdir -p dir$d/sub
            for f in $(seq 50); do head -c $((f * 997)) /dev/urandom > dir$d/file$f; done
        done
        dd if=/dev/urandom of=big bs=1M count=60 status=none
        cp big copy
        dd if=/dev/urandom of=sparse bs=4K seek=10000 count=10 status=none
        rm -r dir2
        mv dir3 dir4/sub/moved
        sync
        rm big
        """,
        folder);
}
